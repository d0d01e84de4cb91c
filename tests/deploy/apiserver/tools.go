//go:build tools

// The programs that tests/deploy/apiserver_test.py starts; dev/check-deploy builds them.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
