#include "textflag.h"

// handler is called by the kernel, in its calling convention, on the stack for signals.
// What it changes rt_sigreturn(2) puts back.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVLQSX ·told(SB), DI
	LEAQ ·one(SB), SI
	MOVL $8, DX
	MOVL $1, AX // write
	SYSCALL
	RET // to restorer

TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL $15, AX // rt_sigreturn
	SYSCALL
	INT $3

// func handlers() (handler, restorer uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-16
	LEAQ handler<>(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ restorer<>(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
