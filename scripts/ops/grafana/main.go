// Checks that a dashboard is one by Grafana's own schema: every member is known
// and of its type, none that is required is missing.
//
// usage: go run . ../dashboard.json       (in scripts/ops/grafana)
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var found dashboard.Dashboard
	if err := withoutEmpty(found.UnmarshalJSONStrict(text)); err != nil {
		return err
	}
	return withoutEmpty(found.Validate())
}

// withoutEmpty drops what some of the library's functions return for a panel that is
// right: a list of errors that is not nil, and empty.
func withoutEmpty(err error) error {
	var list cog.BuildErrors
	if errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}

func main() {
	plugins.RegisterDefaultPlugins() // panels and queries of each kind
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . DASHBOARD")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
