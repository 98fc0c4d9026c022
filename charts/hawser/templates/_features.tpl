{{/* What follows from values: a text that is empty for "no". */}}

{{- define "hawser.provisioner.on" -}}
{{- if and .Values.sidecars.provisioner.enabled .Values.storage.enabled }}true{{ end -}}
{{- end -}}

{{- define "hawser.resizer.on" -}}
{{- if and .Values.sidecars.resizer.enabled .Values.storage.enabled }}true{{ end -}}
{{- end -}}

{{/* The embedded target has one place where its volumes are: it cannot be there twice. */}}
{{- define "hawser.replicas" -}}
{{- if .Values.storage.enabled }}1{{ else }}{{ .Values.controller.replicaCount }}{{ end -}}
{{- end -}}

{{- define "hawser.strategy" -}}
{{- $strategy := .Values.controller.strategy -}}
{{- if or .Values.storage.enabled (eq $strategy.type "Recreate") }}type: Recreate{{ else }}{{ toYaml $strategy }}{{ end -}}
{{- end -}}

{{/* Can two pods of the controller be there at a time? Then their sidecars elect one of them. */}}
{{- define "hawser.leaderElection.on" -}}
{{- $one := eq (include "hawser.replicas" .) "1" -}}
{{- $recreate := eq (include "hawser.strategy" . | fromYaml).type "Recreate" -}}
{{- if not (and $one $recreate) }}true{{ end -}}
{{- end -}}

{{/* The leases of the sidecars that run, by the names they give them. */}}
{{- define "hawser.leases" -}}
{{- $driver := include "hawser.driver" . | replace "." "-" -}}
{{- if include "hawser.leaderElection.on" . }}
{{- if include "hawser.provisioner.on" . }}
- {{ $driver }}
{{- end }}
{{- if .Values.sidecars.attacher.enabled }}
- external-attacher-leader-{{ $driver }}
{{- end }}
{{- if include "hawser.resizer.on" . }}
- external-resizer-{{ $driver }}
{{- end }}
{{- if .Values.sidecars.snapshotter.enabled }}
- external-snapshotter-leader-{{ $driver }}
{{- end }}
{{- if .Values.sidecars.healthMonitor.enabled }}
- external-health-monitor-leader-{{ $driver }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "hawser.dataplane.requireProtections" -}}
{{- $wanted := toString .Values.dataplane.requireProtections -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") (eq .Values.dataplane.device "nbd")) }}true{{ end -}}
{{- end -}}

{{/* Name of the Service of the embedded target, and of the variable that has its address in pods made after it. */}}
{{- define "hawser.target.service" -}}
{{- include "hawser.fullname" . }}-target
{{- end -}}
{{- define "hawser.target.addressVariable" -}}
{{- include "hawser.target.service" . | upper | replace "-" "_" | replace "." "_" }}_SERVICE_HOST
{{- end -}}

{{/* An address in front of a port: IPv6 in brackets. */}}
{{- define "hawser.bracketed" -}}
{{- if eq (index . 0) "IPv6" }}[{{ index . 1 }}]{{ else }}{{ index . 1 }}{{ end -}}
{{- end -}}

{{/* Refuses combinations that could only fail later, and with less to read. */}}
{{- define "hawser.check" -}}
{{- if and .Values.storageCapacity.enabled (not (include "hawser.provisioner.on" .)) -}}
{{- fail "storageCapacity.enabled is true, but nothing publishes capacities, so no pod could be scheduled: it needs storage.enabled and sidecars.provisioner.enabled" -}}
{{- end -}}
{{- if and (eq .Values.node.registrar.mode "builtin") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "node.registrar.mode is builtin, but the kubelet of Kubernetes %s cannot call a socket served by Node.js (1.29 can): set it to sidecar" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and .Values.csiDriver.nodeAllocatableUpdatePeriodSeconds (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "csiDriver.nodeAllocatableUpdatePeriodSeconds is set, but Kubernetes %s does not know it (1.33 does): set it to 0" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and .Values.volumeSnapshotClasses (not (.Capabilities.APIVersions.Has "snapshot.storage.k8s.io/v1/VolumeSnapshotClass")) -}}
{{- fail "volumeSnapshotClasses is not empty, but the cluster does not know snapshot.storage.k8s.io/v1 VolumeSnapshotClass: install the CRDs of external-snapshotter first (with helm template, add --api-versions snapshot.storage.k8s.io/v1/VolumeSnapshotClass)" -}}
{{- end -}}
{{- if and .Values.volumeSnapshotClasses (not .Values.sidecars.snapshotter.enabled) -}}
{{- fail "volumeSnapshotClasses is not empty, but nobody would make the snapshots: set sidecars.snapshotter.enabled" -}}
{{- end -}}
{{- if and .Values.volumeAttributesClasses (not (include "hawser.volumeAttributesClass.version" .)) -}}
{{- fail "volumeAttributesClasses is not empty, but the cluster does not know storage.k8s.io VolumeAttributesClass (v1 came with Kubernetes 1.34; v1beta1 is off by default before)" -}}
{{- end -}}
{{- if and .Values.storage.hostPath .Values.storage.persistence.existingClaim -}}
{{- fail "storage.hostPath and storage.persistence.existingClaim are both set: the volumes can be in one place only; empty one of them" -}}
{{- end -}}
{{- if .Values.storageClasses -}}
{{- $defaults := list -}}
{{- range .Values.storageClasses }}{{ if .isDefault }}{{ $defaults = append $defaults .name }}{{ end }}{{ end -}}
{{- if gt (len $defaults) 1 -}}
{{- fail (printf "storageClasses %s are all isDefault: a cluster has one default class" (join ", " $defaults)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The version of VolumeAttributesClass that the cluster has; empty when it has none. */}}
{{- define "hawser.volumeAttributesClass.version" -}}
{{- if semverCompare ">=1.34.0-0" .Capabilities.KubeVersion.Version -}}
storage.k8s.io/v1
{{- else if .Capabilities.APIVersions.Has "storage.k8s.io/v1beta1/VolumeAttributesClass" -}}
storage.k8s.io/v1beta1
{{- end -}}
{{- end -}}
