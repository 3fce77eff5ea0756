package main

import "errors"

func packBuiltin(binary, out string) error { return errors.New("todo") }
