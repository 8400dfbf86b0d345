package main

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// branchRPC is a branch that is called over JSON-RPC.
func (w *world) branchRPC(out http.ResponseWriter, in *http.Request) {
	var call struct {
		Version string `json:"jsonrpc"`
		ID      string `json:"id"`
		Method  string `json:"method"`
		Params  struct {
			Pieces   int    `json:"pieces"`
			Gid      string `json:"gid"`
			BranchID string `json:"branch_id"`
			Op       string `json:"op"`
		} `json:"params"`
	}
	err := json.NewDecoder(in.Body).Decode(&call)
	if err != nil || call.Version != "2.0" || call.ID == "" || call.Params.Pieces != 30 {
		http.Error(out, "not a call", http.StatusBadRequest)
		return
	}
	p := call.Params
	w.calls.add(p.Gid, fmt.Sprintf("%s/%s %s", p.Op, p.BranchID, call.Method))
	answer := map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": map[string]any{}}
	must(json.NewEncoder(out).Encode(answer))
}
