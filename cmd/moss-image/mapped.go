package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"moss/storage"
	"moss/storage/image"
)

// mapped prints the directory of a tree with shifted owners. The store stays
// closed: whoever pulls meanwhile need not wait.
func mapped(root string, req *image.MappedRequest) error {
	img, err := image.Open(root).Lookup(req.Image)
	if err != nil {
		return fmt.Errorf("cannot map owners: %w", err)
	}
	name := img.ID[:12]
	if len(img.Names) > 0 {
		name = img.Names[0]
	}
	dir, err := storage.Mapped(root, img, *req, func(made func() int64) func() { return tellMapped(name, made) })
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

// tellMapped says how far the work is, if it takes longer than a second: on a
// terminal again and again, else once.
func tellMapped(name string, made func() int64) (done func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		live, said := term.IsTerminal(int(os.Stderr.Fd())), false
		for {
			select {
			case <-end:
				if live && said {
					fmt.Fprintf(os.Stderr, "\r\x1b[K")
				}
				return
			case <-ticker.C:
			}
			switch {
			case live:
				fmt.Fprintf(os.Stderr, "\r\x1b[KMapping the owners of %s, once: %d files", name, made())
			case !said:
				fmt.Fprintf(os.Stderr, "Mapping the owners of %s, once...\n", name)
			}
			said = true
		}
	}()
	return func() { close(end); <-ended }
}
