// Package pandov1 hides the bytes of Pando's messages over gRPC, gRPC-Web and Connect. All
// but this file is generated of pando.proto; docs/grpc.md says how it is used.
package pandov1

//go:generate go run ./generate
