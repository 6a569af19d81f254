package api

import (
	"context"
	"encoding/json"
	"net/http"

	"connectrpc.com/connect"

	"github.com/pandodb/pando/api/pandov1"
)

func (p *rpc) Prepare(ctx context.Context, r *connect.Request[pandov1.PrepareRequest]) (*connect.Response[pandov1.PrepareResponse], error) {
	m := r.Msg
	in := Request{Query: m.GetQuery(), OperationName: m.GetOperationName(), Variables: json.RawMessage(m.GetVariables())}
	if len(in.Variables) == 0 {
		in.Variables = nil
	}
	var out Prepared
	if err := p.callJSON(ctx, "/commits/prepare", in, &out); err != nil {
		return nil, err
	}
	answer := &pandov1.PrepareResponse{Json: string(out.Answer)}
	for _, c := range out.Commits {
		answer.Commits = append(answer.Commits, &pandov1.Draft{Collection: c.Collection, Header: c.Header, Payload: c.Payload})
	}
	return connect.NewResponse(answer), nil
}

func (p *rpc) Submit(ctx context.Context, r *connect.Request[pandov1.SubmitRequest]) (*connect.Response[pandov1.SubmitResponse], error) {
	var in submitRequest
	in.Body.Concurrent = r.Msg.GetConcurrent()
	for _, c := range r.Msg.GetCommits() {
		in.Body.Commits = append(in.Body.Commits, SignedCommit{c.GetCollection(), c.GetEnvelope()})
	}
	var out Submitted
	if err := p.callJSON(ctx, "/commits/submit", in.Body, &out); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pandov1.SubmitResponse{Commits: out.Commits}), nil
}

// callJSON carries out an operation that takes and gives JSON.
func (p *rpc) callJSON(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return rpcError(badJSON(err), "")
	}
	answer, err := p.call(ctx, operationRequest{method: http.MethodPost, path: path, body: body})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return rpcError(err, "")
	}
	return nil
}
