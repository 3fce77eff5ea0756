package cli

import "moss/storage/image"

// platformOf fills in what --os, --arch and --variant leave open.
func platformOf(os, arch, variant string) string {
	p := image.HostPlatform()
	if os != "" {
		p.OS = os
	}
	if arch != "" {
		p.Arch, p.Variant = arch, ""
	}
	if variant != "" {
		p.Variant = variant
	}
	return p.String()
}
