package main

const (
	sysKeyctl = 250
	sysBPF    = 321
)
