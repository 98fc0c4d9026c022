{{/* Parts of pods. */}}

{{/* Where pods may run and who they are: (list ROOT COMPONENT). */}}
{{- define "hawser.podPlacement" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "hawser.serviceAccountName" . }}
priorityClassName: {{ $part.priorityClassName }}
terminationGracePeriodSeconds: {{ $part.terminationGracePeriodSeconds }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: (list ROOT COMPONENT). */}}
{{- define "hawser.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
labels:
  {{- /* No version: a new version of the chart alone restarts nothing. */}}
  {{- include "hawser.selectorLabels" . | nindent 2 }}
  {{- with $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $part.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $part.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The command that keeps only these capabilities of a privileged container's: (list CAPABILITIES). */}}
{{- define "hawser.keepCapabilities" -}}
- setpriv
- --bounding-set=-all{{ range index . 0 }},+{{ lower . }}{{ end }}
- --inh-caps=-all
- --no-new-privs
{{- end -}}

{{/* What every container may do that needs no more than its socket. */}}
{{- define "hawser.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The arguments that sidecars of the controller have in common: (list ROOT NAME). */}}
{{- define "hawser.sidecarArgs" -}}
{{- $root := index . 0 -}}
{{- $sidecar := index $root.Values.sidecars (index . 1) -}}
- --csi-address=/csi/csi.sock
- --v={{ $sidecar.logLevel }}
- --timeout={{ $sidecar.timeout }}
{{- if include "hawser.leaderElection.on" $root }}
- --leader-election
- --leader-election-namespace={{ include "hawser.namespace" $root }}
{{- end }}
{{- if hasKey $sidecar "kubeApiQps" }}
- --kube-api-qps={{ $sidecar.kubeApiQps }}
- --kube-api-burst={{ $sidecar.kubeApiBurst }}
{{- end }}
{{- if $sidecar.httpPort }}
- --http-endpoint=:{{ $sidecar.httpPort }}
{{- end }}
{{- end -}}

{{/* The rest of a sidecar, after its arguments: (list ROOT NAME). Port names have at most 15 characters. */}}
{{- define "hawser.sidecarRest" -}}
{{- $root := index . 0 -}}
{{- $sidecar := index $root.Values.sidecars (index . 1) -}}
{{- range $sidecar.extraArgs }}
  - {{ . | quote }}
{{- end }}
{{- if $sidecar.httpPort }}
ports:
  - name: {{ printf "m-%s" (index . 1) | lower | trunc 15 }}
    containerPort: {{ $sidecar.httpPort }}
{{- end }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
securityContext:
  {{- mergeOverwrite (include "hawser.restricted" $root | fromYaml) $sidecar.securityContext | toYaml | nindent 2 }}
{{- end -}}

{{/* Name and image of a sidecar: (list ROOT NAME CONTAINER). */}}
{{- define "hawser.sidecarHead" -}}
{{- $sidecar := index (index . 0).Values.sidecars (index . 1) -}}
name: {{ index . 2 }}
image: {{ include "hawser.image" (list (index . 0) $sidecar.image) }}
imagePullPolicy: {{ $sidecar.image.pullPolicy }}
{{- end -}}

{{/* The livenessprobe sidecar: (list ROOT COMPONENT). */}}
{{- define "hawser.livenessSidecar" -}}
{{- $root := index . 0 -}}
{{- $probe := $root.Values.sidecars.livenessProbe -}}
{{- include "hawser.sidecarHead" (list $root "livenessProbe" "liveness-probe") }}
args:
  - --csi-address=/csi/csi.sock
  - --http-endpoint=:{{ (index $root.Values (index . 1)).livenessProbe.port }}
  - --probe-timeout={{ $probe.timeout }}
  - --v={{ $probe.logLevel }}
{{- include "hawser.sidecarRest" (list $root "livenessProbe") }}
volumeMounts:
  - name: socket
    mountPath: /csi
{{- end -}}

{{/* The probes of the container that serves CSI: (list ROOT COMPONENT). Either program answers on the same port. */}}
{{- define "hawser.probes" -}}
{{- $probe := (index (index . 0).Values (index . 1)).livenessProbe -}}
{{- if ne $probe.mode "none" }}
ports:
  - name: health
    containerPort: {{ $probe.port }}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  initialDelaySeconds: {{ $probe.initialDelaySeconds }}
  periodSeconds: {{ $probe.periodSeconds }}
  timeoutSeconds: {{ $probe.timeoutSeconds }}
  failureThreshold: {{ $probe.failureThreshold }}
{{- if eq $probe.mode "builtin" }}
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: {{ $probe.periodSeconds }}
  timeoutSeconds: {{ $probe.timeoutSeconds }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Arguments of both services of CSI: (list ROOT COMPONENT). */}}
{{- define "hawser.csiArgs" -}}
{{- $root := index . 0 -}}
{{- $probe := (index $root.Values (index . 1)).livenessProbe -}}
- --endpoint=unix:///csi/csi.sock
- --csi-spec-level={{ $root.Values.csiSpecLevel }}
- --log-level={{ $root.Values.logLevel }}
{{- if eq $probe.mode "builtin" }}
- --health={{ $root.Values.health.bindHost }}:{{ $probe.port }}
{{- end }}
{{- end -}}

{{- define "hawser.nodeNameEnv" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end -}}
