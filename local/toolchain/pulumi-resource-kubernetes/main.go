// Command pulumi-resource-kubernetes is Pulumi's Kubernetes provider, built from its released Go module.
//
// The module's own cmd embeds two generated files that the module does not carry; it does carry what they are generated
// from, and the build copies those beside this file (see local/toolchain/go.py).
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

var version = "4.25.0"

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version, schema, terraformMapping)
}
