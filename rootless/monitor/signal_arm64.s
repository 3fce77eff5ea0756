#include "textflag.h"

// handler is called by the kernel, in its calling convention, on the stack for signals.
// What it changes rt_sigreturn(2) puts back.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVW ·told(SB), R0
	MOVD $·one(SB), R1
	MOVD $8, R2
	MOVD $64, R8 // write
	SVC
	RET // to restorer

TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD $139, R8 // rt_sigreturn
	SVC
	BRK

// func handlers() (handler, restorer uintptr)
TEXT ·handlers(SB), NOSPLIT, $0-16
	MOVD $handler<>(SB), R0
	MOVD R0, handler+0(FP)
	MOVD $restorer<>(SB), R0
	MOVD R0, restorer+8(FP)
	RET
