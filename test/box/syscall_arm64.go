package main

const (
	sysKeyctl = 219
	sysBPF    = 280
)
