package api

import (
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pandodb/pando/api/pandov1/pandov1connect"
)

// RPC returns the generated client of the same node: it goes the way the client goes, TCP, socket
// or libp2p, proves to be the same, and holds no more of an answer. It speaks Connect, over
// HTTP/1.1. RPCError gives the kind of its errors. LimitAnswers must be called before.
func (c *Client) RPC(options ...connect.ClientOption) pandov1connect.PandoClient {
	return pandov1connect.NewPandoClient(rpcWay{c}, c.base, append([]connect.ClientOption{
		connect.WithReadMaxBytes(c.answerLimit()),
		connect.WithAcceptCompression("gzip", nil, nil), // nodes pack nothing
		connect.WithCodec(countingCodec{c.answerLimit()}),
	}, options...)...)
}

// rpcWay sends the requests of a generated client.
type rpcWay struct{ c *Client }

func (w rpcWay) Do(req *http.Request) (*http.Response, error) {
	if err := w.c.prove(req); err != nil {
		return nil, err
	}
	resp, err := w.c.exchange(req)
	if err == nil && resp.Header.Get("Content-Type") == "application/proto" {
		// One message: connect would read one that is too long to its end, which may never come.
		// What a stream brings is of any length, each message of a known one.
		body := resp.Body
		resp.Body = struct {
			io.Reader
			io.Closer
		}{w.c.bound(body), body}
	}
	return resp, err
}

// countingCodec reads messages of not too many parts: an empty one takes two bytes on the wire,
// and a hundred as a Go value.
type countingCodec struct{ limit int }

func (countingCodec) Name() string { return "proto" }

func (countingCodec) Marshal(m any) ([]byte, error) { return proto.Marshal(m.(proto.Message)) }

func (c countingCodec) Unmarshal(raw []byte, m any) error {
	most := c.limit / answerPerObject
	if weighed(raw, m.(proto.Message).ProtoReflect().Descriptor(), most*textsPerObject) > most*textsPerObject {
		return tooManyObjects(c.limit)
	}
	return proto.Unmarshal(raw, m.(proto.Message))
}

// weighed returns the weight of a message, or some more than most: textsPerObject for each
// field that is a message, and 1 for each other.
func weighed(raw []byte, kind protoreflect.MessageDescriptor, most int) (weight int) {
	for len(raw) > 0 && weight <= most {
		number, is, n := protowire.ConsumeField(raw)
		if n < 0 {
			break // which Unmarshal says better
		}
		field := raw[:n]
		raw = raw[n:]
		weight++
		if f := kind.Fields().ByNumber(number); f != nil && f.Message() != nil && is == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(field)
			inner, _ := protowire.ConsumeBytes(field[tag:])
			weight += textsPerObject - 1 + weighed(inner, f.Message(), most-weight)
		}
	}
	return weight
}
