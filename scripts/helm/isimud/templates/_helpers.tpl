{{/* A name of at most 63 bytes: the release's, with the chart's unless that is in it. */}}
{{- define "isimud.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "isimud.selector" -}}
app.kubernetes.io/name: isimud
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "isimud.labels" -}}
{{ include "isimud.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "isimud.secret" -}}
{{- .Values.password.existingSecret | default (include "isimud.name" .) -}}
{{- end -}}

{{- define "isimud.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The container, without its name and what it mounts. */}}
{{- define "isimud.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - name: http
    containerPort: 3000
  - name: admin
    containerPort: 9090
startupProbe:
  httpGet:
    path: {{ eq .Values.mode "cluster" | ternary "/healthz" "/readyz" }}
    port: admin
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    port: admin
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 1
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Settings that all have. All addresses, of IPv4 and IPv6. */}}
{{- define "isimud.env" -}}
- name: IP
  value: "::"
- name: ADMIN_PORT
  value: "9090"
- name: PASSWORD_FILE
  value: /etc/isimud/password
- name: WORKERS
  value: {{ .Values.workers | quote }}
- name: DRAIN_SECONDS
  value: {{ .Values.drainSeconds | quote }}
{{- if not (hasKey .Values.settings "LOG_FORMAT") }}
- name: LOG_FORMAT
  value: json
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{- define "isimud.passwordVolume" -}}
- name: isimud-password
  secret:
    secretName: {{ include "isimud.secret" . }}
    defaultMode: 0440
    items:
      - key: {{ .Values.password.key }}
        path: password
{{- end -}}

{{/*
isimud as a native sidecar, for a chart that has this one as a dependency: an
element of initContainers. The application publishes to /run/isimud/isimud.sock.

    initContainers:
      {{- include "isimud.sidecar" (merge (dict "Values" .Values.isimud "Chart" .Subcharts.isimud.Chart) .) | nindent 8 }}
    volumes:
      {{- include "isimud.sidecarVolumes" (merge (dict "Values" .Values.isimud) .) | nindent 8 }}
*/}}
{{- define "isimud.sidecar" -}}
- name: isimud
  restartPolicy: Always
  {{- include "isimud.container" . | nindent 2 }}
  env:
    - name: LISTEN
      value: unix:/run/isimud/isimud.sock,[::]:3000
    - name: HISTORY_FILE
      value: /var/lib/isimud/history
    {{- include "isimud.env" . | nindent 4 }}
  volumeMounts:
    - name: isimud-socket
      mountPath: /run/isimud
    - name: isimud-history
      mountPath: /var/lib/isimud
    - name: isimud-password
      mountPath: /etc/isimud
      readOnly: true
{{- end -}}

{{- define "isimud.sidecarVolumes" -}}
- name: isimud-socket
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: isimud-history
  emptyDir:
    sizeLimit: {{ .Values.persistence.size }}
{{ include "isimud.passwordVolume" . }}
{{- end -}}
