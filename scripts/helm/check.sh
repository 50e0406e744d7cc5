#!/bin/bash
# `helm lint` of the charts in scripts/helm/, strict, and what they come to with
# several values, in build/helm/*.yaml, for scripts/k8s/check.sh.
# usage: scripts/helm/check.sh
# helm, where none is in PATH, is built by Go from its module into build/helm.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=v3.22.0
kubernetes=1.36.3 # one that `go install` makes believes in an old one
out=$PWD/build/helm
mkdir -p "$out"
die() { echo "helm: $*" >&2; exit 1; }

helm=$(command -v helm) || helm=$out/bin/helm
[ -x "$helm" ] || GOBIN=$out/bin go install "helm.sh/helm/v3/cmd/helm@$version"
export HELM_CACHE_HOME=$out/cache HELM_CONFIG_HOME=$out/config HELM_DATA_HOME=$out/data

rm -rf "$out/charts"
cp -r scripts/helm "$out/charts"
chart=$out/charts/isimud
example=$out/charts/sidecar-example
"$helm" dependency build "$example" >/dev/null
cluster=(--set mode=cluster --set-string 'cluster.natsUrl=nats://n1:4222\,nats://n2:4222')
"$helm" lint --strict --quiet --kube-version "$kubernetes" "$chart"
"$helm" lint --strict --quiet --kube-version "$kubernetes" "$chart" "${cluster[@]}"
"$helm" lint --strict --quiet --kube-version "$kubernetes" "$example"

# NAME, then arguments of `helm template`.
render() {
	local name=$1
	shift
	"$helm" template --kube-version "$kubernetes" --namespace push "$@" >"$out/$name.yaml"
	! grep -nE '<no value>|%!' "$out/$name.yaml" || die "$name is not filled in"
}
render standalone push "$chart" --set podMonitor.enabled=true --set settings.MAX_BUFFERED=8M
render volatile isimud "$chart" --set persistence.enabled=false --set password.existingSecret=isimud
render cluster push "$chart" "${cluster[@]}" --set podMonitor.enabled=true
render sidecar clock "$example"
! grep -q 'kind: StatefulSet' "$out/sidecar.yaml" || die "the sidecar's chart makes a server of its own"
[ "$(grep -c '^kind: ' "$out/sidecar.yaml")" = 2 ] || die "the sidecar is a Deployment and a Secret"

refused() {
	local why=$1 answer
	shift
	if answer=$("$helm" template --kube-version "$kubernetes" push "$chart" "$@" 2>&1); then
		die "accepted: $*"
	fi
	grep -q "$why" <<<"$answer" || die "unexpected answer to $*: $answer"
}
refused 'mode cluster needs' --set mode=cluster
refused 'PORT' --set settings.PORT=1
refused 'max_body' --set settings.max_body=1
refused 'replicas' "${cluster[@]}" --set cluster.replicas=0
refused 'mode' --set mode=standalonee
refused 'memroy' --set memroy=1

# Each setting that the chart and its pages name is one of isimud's.
for name in $(sed -n 's/^ *- name: \([A-Z_]*\)$/\1/p' "$out"/{standalone,cluster,sidecar}.yaml | sort -u); do
	grep -qE "X\([A-Z_]+, $name," src/config/settings.h ||
		die "$name is not a setting"
done
echo "helm: charts are right; what they come to is in build/helm"
