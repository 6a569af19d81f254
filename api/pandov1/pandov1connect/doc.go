// Package pandov1connect holds what is generated of pando.proto to serve and to call the
// service Pando: it hides which of the protocols gRPC, gRPC-Web and Connect is spoken.
package pandov1connect
