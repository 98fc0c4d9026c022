{{/*
Who the controller's containers are. They share a socket that only its owner may use, so all have one user. A folder of
the node belongs to root: with storage.hostPath they are root, still without any capability. OpenShift picks the user
itself.
*/}}
{{- define "hawser.controllerPodSecurity" -}}
{{- $isRoot := and .Values.storage.enabled .Values.storage.hostPath -}}
{{- $base := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if $isRoot -}}
{{- $base = mergeOverwrite $base (dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0) -}}
{{- else if not .Values.openshift.enabled -}}
{{- $base = mergeOverwrite $base (dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end -}}
{{- mergeOverwrite $base .Values.controller.podSecurityContext | toYaml -}}
{{- end -}}

{{- define "hawser.controllerSidecars" -}}
{{- if include "hawser.provisioner.on" . }}
- {{- include "hawser.sidecarHead" (list . "provisioner" "provisioner") | nindent 2 }}
  args:
    {{- include "hawser.sidecarArgs" (list . "provisioner") | nindent 4 }}
    - --worker-threads={{ .Values.sidecars.provisioner.workers }}
    - --default-fstype={{ .Values.sidecars.provisioner.defaultFsType }}
    # So that volumes know their claim, which events name.
    - --extra-create-metadata
    {{- if not .Values.sidecars.snapshotter.enabled }}
    # Nobody makes snapshots: there is nothing to sweep, and no permission to look.
    - --snapshot-orphan-sweep-interval=0
    {{- end }}
    {{- if .Values.storageCapacity.enabled }}
    - --enable-capacity
    # The Deployment owns the objects, not the pod that happened to make them: pod, ReplicaSet, Deployment.
    - --capacity-ownerref-level=2
    - --capacity-poll-interval={{ .Values.storageCapacity.pollInterval }}
    {{- end }}
  {{- include "hawser.sidecarRest" (list . "provisioner") | nindent 2 }}
  {{- if .Values.storageCapacity.enabled }}
  env:
    - name: NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
  {{- end }}
  volumeMounts:
    - name: socket
      mountPath: /csi
{{- end }}
{{- if .Values.sidecars.attacher.enabled }}
- {{- include "hawser.sidecarHead" (list . "attacher" "attacher") | nindent 2 }}
  args:
    {{- include "hawser.sidecarArgs" (list . "attacher") | nindent 4 }}
    - --worker-threads={{ .Values.sidecars.attacher.workers }}
  {{- include "hawser.sidecarRest" (list . "attacher") | nindent 2 }}
  volumeMounts:
    - name: socket
      mountPath: /csi
{{- end }}
{{- if include "hawser.resizer.on" . }}
- {{- include "hawser.sidecarHead" (list . "resizer" "resizer") | nindent 2 }}
  args:
    {{- include "hawser.sidecarArgs" (list . "resizer") | nindent 4 }}
    - --workers={{ .Values.sidecars.resizer.workers }}
    # Volumes grow while they are used, so it need not watch every pod.
    - --handle-volume-inuse-error=false
  {{- include "hawser.sidecarRest" (list . "resizer") | nindent 2 }}
  volumeMounts:
    - name: socket
      mountPath: /csi
{{- end }}
{{- if .Values.sidecars.snapshotter.enabled }}
- {{- include "hawser.sidecarHead" (list . "snapshotter" "snapshotter") | nindent 2 }}
  args:
    {{- include "hawser.sidecarArgs" (list . "snapshotter") | nindent 4 }}
    - --worker-threads={{ .Values.sidecars.snapshotter.workers }}
    - --extra-create-metadata
  {{- include "hawser.sidecarRest" (list . "snapshotter") | nindent 2 }}
  volumeMounts:
    - name: socket
      mountPath: /csi
{{- end }}
{{- if .Values.sidecars.healthMonitor.enabled }}
- {{- include "hawser.sidecarHead" (list . "healthMonitor" "health-monitor") | nindent 2 }}
  args:
    {{- include "hawser.sidecarArgs" (list . "healthMonitor") | nindent 4 }}
    - --worker-threads={{ .Values.sidecars.healthMonitor.workers }}
  {{- include "hawser.sidecarRest" (list . "healthMonitor") | nindent 2 }}
  volumeMounts:
    - name: socket
      mountPath: /csi
{{- end }}
{{- if eq .Values.controller.livenessProbe.mode "sidecar" }}
- {{- include "hawser.livenessSidecar" (list . "controller") | nindent 2 }}
{{- end }}
{{- end -}}
