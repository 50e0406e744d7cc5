#!/bin/bash
# Shows the manifests of scripts/k8s/, scripts/proxy/ingress.yaml and what the
# charts of scripts/helm/ come to (scripts/helm/check.sh) to a real
# Kubernetes API server: `kubectl apply --dry-run=server`, unknown fields and
# warnings being errors, in a namespace that enforces restricted pod security.
# There is no kubelet: nothing is run.
# usage: scripts/k8s/check.sh
#
# kube-apiserver, and kubectl where none is in PATH, are built by Go from their
# modules into build/k8s (about six minutes on two CPUs, once); etcd is Debian's
# etcd-server, unpacked there unless installed. PodMonitor's definition is made
# from the Prometheus Operator's Go types. Both servers listen on loopback only
# and are ended by their ids.
set -euo pipefail
cd "$(dirname "$0")/../.."

kubernetes=1.36.3
controller_tools=v0.23.0
prometheus_operator=v0.95.1
out=$PWD/build/k8s
mkdir -p "$out"

die() { echo "k8s_check: $*" >&2; exit 1; }

# Kubernetes' own go.mod points at folders of its repository; a module of ours
# can use it by naming the published module of each.
build_kubernetes() { # program, its package, the expression that makes it
	local program=$1 package=$2 source=$3 dir=$out/src-$1 gomod
	[ -x "$out/$program-$kubernetes" ] && return
	echo "k8s_check: building $program $kubernetes"
	mkdir -p "$dir"
	gomod=$(go mod download -json "k8s.io/kubernetes@v$kubernetes" |
		sed -n 's/.*"GoMod": "\(.*\)",*/\1/p')
	{
		echo "module k8scheck"
		grep '^go ' "$gomod"
		echo "require k8s.io/kubernetes v$kubernetes"
		awk -v v="v0.${kubernetes#1.}" '$2 == "=>" && $3 ~ /staging/ {
			print "replace", $1, "=>", $1, v }' "$gomod"
	} >"$dir/go.mod"
	printf 'package main\n\nimport (\n\t"os"\n\n\t"k8s.io/component-base/cli"\n\t"%s"\n)\n\nfunc main() { os.Exit(cli.Run(%s)) }\n' \
		"$package" "$source" >"$dir/main.go"
	local version=k8s.io/component-base/version
	(
		cd "$dir"
		go mod tidy 2>&1 | { grep -v '^go: ' || true; }
		go build -ldflags "-s -w -X $version.gitVersion=v$kubernetes" \
			-o "$out/$program-$kubernetes" .
	)
}

find_kubectl() {
	kubectl=$(command -v kubectl) && return
	build_kubernetes kubectl k8s.io/kubectl/pkg/cmd 'cmd.NewDefaultKubectlCommand()'
	kubectl=$out/kubectl-$kubernetes
}

find_etcd() {
	etcd=$(command -v etcd) && return
	etcd=$out/etcd/usr/bin/etcd
	[ -x "$etcd" ] && return
	echo "k8s_check: unpacking Debian's etcd-server"
	mkdir -p "$out/etcd"
	(cd "$out/etcd" && apt-get download -q etcd-server >/dev/null 2>&1) ||
		die "no etcd in PATH, and apt-get has no etcd-server (apt-get update?)"
	dpkg -x "$out"/etcd/etcd-server_*.deb "$out/etcd"
}

make_crd() {
	local dir=$out/src-crd
	crd=$out/podmonitors-$prometheus_operator.yaml
	[ -s "$crd" ] && return
	echo "k8s_check: making PodMonitor's definition"
	local monitoring=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring
	local generator=sigs.k8s.io/controller-tools
	mkdir -p "$dir"
	printf '//go:build tools\n\npackage crd\n\nimport (\n\t_ "%s/v1"\n\t_ "%s/cmd/controller-gen"\n)\n' \
		$monitoring $generator >"$dir/tools.go"
	(
		cd "$dir"
		printf 'module crd\n\ngo 1.24\n\nrequire (\n\t%s %s\n\t%s %s\n)\n' \
			$monitoring $prometheus_operator \
			$generator $controller_tools >go.mod
		go mod tidy 2>&1 | { grep -v '^go: ' || true; }
		go run $generator/cmd/controller-gen crd \
			paths=$monitoring/v1 output:crd:dir=out
	)
	cp "$dir/out/monitoring.coreos.com_podmonitors.yaml" "$crd"
}

free_ports() {
	python3 - "$1" <<'END'
import socket, sys
listeners = [socket.create_server(("127.0.0.1", 0))
             for _ in range(int(sys.argv[1]))]
print(*(listener.getsockname()[1] for listener in listeners))
END
}

# Both are of no use afterwards, and an API server without etcd does not end
# by itself: SIGKILL.
started=()
stop() {
	local id
	for id in "${started[@]}"; do
		kill -KILL "$id" 2>/dev/null || true
		wait "$id" 2>/dev/null || true
	done
	rm -rf "$work"
}

start() {
	work=$(mktemp -d)
	trap stop EXIT
	read -r client peer api < <(free_ports 3)
	"$etcd" --data-dir "$work/etcd" --log-level error \
		--listen-client-urls "http://127.0.0.1:$client" \
		--advertise-client-urls "http://127.0.0.1:$client" \
		--listen-peer-urls "http://127.0.0.1:$peer" \
		--initial-advertise-peer-urls "http://127.0.0.1:$peer" \
		--initial-cluster "default=http://127.0.0.1:$peer" \
		>"$out/etcd.log" 2>&1 &
	started+=($!)
	openssl genrsa -out "$work/accounts.key" 2048 2>/dev/null
	local token
	token=$(openssl rand -hex 16)
	(umask 077 && echo "$token,check,check,system:masters" >"$work/tokens")
	"$out/kube-apiserver-$kubernetes" \
		--etcd-servers="http://127.0.0.1:$client" \
		--bind-address=127.0.0.1 --secure-port="$api" \
		--endpoint-reconciler-type=none --cert-dir="$work/tls" \
		--token-auth-file="$work/tokens" --authorization-mode=RBAC \
		--service-account-issuer=https://localhost \
		--service-account-key-file="$work/accounts.key" \
		--service-account-signing-key-file="$work/accounts.key" \
		--service-cluster-ip-range=10.96.0.0/16 \
		>"$out/apiserver.log" 2>&1 &
	started+=($!)
	cat >"$work/kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$api",
  certificate-authority: "$work/tls/apiserver.crt"}}]
users: [{name: u, user: {token: "$token"}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: push}}]
current-context: x
END
	export KUBECONFIG=$work/kubeconfig
	local try
	for try in $(seq 120); do
		"$kubectl" get --raw /readyz >/dev/null 2>&1 && return
		kill -0 "${started[1]}" 2>/dev/null || break
		sleep 0.5
	done
	die "the API server is not ready: $out/apiserver.log"
}

# A dry run of the manifests on standard input; a warning is an error.
dry_run() {
	"$kubectl" apply --dry-run=server --validate=strict \
		--warnings-as-errors -f - "$@"
}

# The pod that a Deployment or StatefulSet on standard input would make: pod
# security is enforced on pods, on those it only warns.
pods_of() {
	"$kubectl" create --dry-run=client -o json -f - |
		python3 -c '
import json, sys
decoder, text, at = json.JSONDecoder(), sys.stdin.read(), 0
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    one, at = decoder.raw_decode(text, at)
    for item in one.get("items", [one]):
        if item["kind"] in ("Deployment", "StatefulSet"):
            pod = item["spec"]["template"]
            for claim in item["spec"].get("volumeClaimTemplates", []):
                name = claim["metadata"]["name"]
                pod["spec"]["volumes"].append({"name": name,
                    "persistentVolumeClaim": {"claimName": name}})
            pod.update(apiVersion="v1", kind="Pod")
            pod["metadata"]["name"] = item["metadata"]["name"]
            print(json.dumps(pod))
'
}

refused() {
	local what=$1 why=$2 answer
	if answer=$(dry_run 2>&1); then
		die "$what was accepted: $answer"
	fi
	grep -q "$why" <<<"$answer" || die "$what: unexpected answer: $answer"
	echo "refused, as it must be: $what"
}

command -v go >/dev/null || [ -x "$out/kube-apiserver-$kubernetes" ] ||
	die "Go is needed, to build kube-apiserver"
build_kubernetes kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver/app \
	'app.NewAPIServerCommand()'
find_kubectl
find_etcd
make_crd
start

"$kubectl" version 2>/dev/null | grep Server
"$kubectl" create namespace push >/dev/null
"$kubectl" label namespace push pod-security.kubernetes.io/{enforce,warn}=restricted >/dev/null
"$kubectl" create serviceaccount default >/dev/null
"$kubectl" create secret generic isimud --from-literal=password=secret >/dev/null
"$kubectl" create -f "$crd" >/dev/null
"$kubectl" wait --for=condition=established --timeout=30s \
	crd/podmonitors.monitoring.coreos.com >/dev/null

for name in sidecar standalone cluster; do
	echo "== $name, with the PodMonitor component"
	# kustomize names components by a path relative to the file.
	cp -r scripts/k8s "$work/$name"
	echo 'components: [../podmonitor]' \
		>>"$work/$name/$name/kustomization.yaml"
	"$kubectl" kustomize "$work/$name/$name" >"$work/$name.yaml"
	dry_run <"$work/$name.yaml"
	pods_of <"$work/$name.yaml" | dry_run
	"$kubectl" kustomize "scripts/k8s/$name" | dry_run >/dev/null
	if grep 'image: isimud$' "$work/$name.yaml"; then
		die "the image's name was not replaced"
	fi
done
scripts/helm/check.sh
for name in standalone volatile cluster sidecar; do
	echo "== the chart: $name"
	dry_run <"build/helm/$name.yaml"
	pods_of <"build/helm/$name.yaml" | dry_run
done
echo "== ingress"
dry_run <scripts/proxy/ingress.yaml

echo "== is the check strict?"
sed 's/readinessProbe/readynessProbe/' "$work/sidecar.yaml" |
	refused "a misspelt field" 'unknown field.*readynessProbe'
sed 's/port: admin/prot: admin/' "$work/standalone.yaml" |
	refused "a misspelt field of the PodMonitor or a probe" 'unknown field'
pods_of <"$work/standalone.yaml" | sed 's/"runAsNonRoot": true/"runAsNonRoot": false/' |
	refused "a pod that may run as root" 'violates PodSecurity'
sed 's/memory: 512Mi/memory: 512Mb/' "$work/standalone.yaml" |
	refused "a wrong quantity" 'quantities must match'
echo "k8s_check: all accepted"
