package registry

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Progress tells the user what is being copied: with a bar for each blob on a
// terminal, else with a line. The zero value says nothing.
type Progress struct {
	out   io.Writer
	bars  *mpb.Progress
	after []string // lines that follow the bars
}

// NewProgress reports on out; quiet says nothing.
func NewProgress(out *os.File, quiet bool) *Progress {
	p := &Progress{}
	if quiet {
		return p
	}
	p.out = out
	if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40))
	}
	return p
}

// Line writes a line above the bars.
func (p *Progress) Line(format string, args ...any) {
	switch {
	case p.out == nil:
	case p.bars != nil:
		fmt.Fprintf(p.bars, format+"\n", args...)
	default:
		fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// After writes a line below the bars, once they are done.
func (p *Progress) After(line string) {
	if p.bars == nil {
		p.Line("%s", line)
		return
	}
	p.after = append(p.after, line)
}

// Wait draws the bars for the last time. Nothing can be reported after it.
func (p *Progress) Wait() {
	if p.bars == nil {
		return
	}
	p.bars.Wait()
	for _, line := range p.after {
		fmt.Fprintln(p.out, line)
	}
}

// Bar is the progress of one blob.
type Bar struct {
	bar  *mpb.Bar
	mu   sync.Mutex
	last time.Time // when it was moved before: the rate is of what came since
}

// Blob announces a blob: what is "blob" or "config".
func (p *Progress) Blob(what string, d digest.Digest, size int64) *Bar {
	if p.bars == nil {
		p.Line("Copying %s %s", what, d)
		return &Bar{}
	}
	label := fmt.Sprintf("Copying %s %s ", what, d.Encoded()[:12])
	bar := p.bars.New(size, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding("-").Rbound("]"),
		mpb.PrependDecorators(decor.OnComplete(decor.Name(label), label+"done")),
		mpb.AppendDecorators(
			decor.OnComplete(decor.Counters(decor.SizeB1024(0), " %.1f / %.1f"), ""),
			decor.OnComplete(decor.EwmaSpeed(decor.SizeB1024(0), " %.1f", 64), ""),
			decor.OnComplete(decor.EwmaETA(decor.ET_STYLE_GO, 64), ""),
		),
		mpb.BarFillerClearOnComplete(),
	)
	return &Bar{bar: bar, last: time.Now()}
}

// Skipped says that a blob is there already.
func (p *Progress) Skipped(d digest.Digest) {
	p.Line("Copying blob %s skipped: already exists", d)
}

// Add moves the bar by n bytes that came now; if negative, it begins anew.
func (b *Bar) Add(n int) {
	if b.bar == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if n < 0 {
		b.bar.IncrBy(n)
	} else {
		b.bar.EwmaIncrBy(n, now.Sub(b.last))
	}
	b.last = now
}

// Skip moves the bar by n bytes that were there before it.
func (b *Bar) Skip(n int64) {
	if b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// Done fills the bar up.
func (b *Bar) Done() {
	if b.bar != nil {
		b.bar.SetTotal(-1, true)
	}
}

// Abort leaves the bar as it is.
func (b *Bar) Abort() {
	if b.bar != nil {
		b.bar.Abort(false)
	}
}

// Write moves the bar by what is written.
func (b *Bar) Write(p []byte) (int, error) {
	b.Add(len(p))
	return len(p), nil
}
