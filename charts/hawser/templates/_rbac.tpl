{{/*
Rules of the controller's account over the whole cluster, cut to what the sidecars that run really ask for. Their
informers list and watch; a verb beyond that has its reason beside it.
*/}}
{{- define "hawser.controllerClusterRules" -}}
{{- $provisioner := include "hawser.provisioner.on" . -}}
{{- $resizer := include "hawser.resizer.on" . -}}
{{- $attacher := .Values.sidecars.attacher.enabled -}}
{{- $snapshotter := .Values.sidecars.snapshotter.enabled -}}
{{- $monitor := .Values.sidecars.healthMonitor.enabled -}}
{{- $capacity := .Values.storageCapacity.enabled -}}
{{- $modify := not (empty .Values.volumeAttributesClasses) -}}
{{- $volumeVerbs := list -}}
{{- if or $provisioner $attacher $resizer $monitor }}{{ $volumeVerbs = list "list" "watch" }}{{ end -}}
{{- /* Attacher: its finalizer. Resizer: the new size. Provisioner: its finalizer. */ -}}
{{- if or $attacher $resizer $provisioner }}{{ $volumeVerbs = append $volumeVerbs "patch" }}{{ end -}}
{{- if $provisioner }}{{ $volumeVerbs = concat $volumeVerbs (list "create" "delete") }}{{ end -}}
{{- with $volumeVerbs }}
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: {{ toJson . }}
{{- end }}
{{- if or $provisioner $resizer $monitor }}
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  # No update: the provisioner hands a claim back to the scheduler only for drivers with topology.
  verbs: [list, watch]
{{- end }}
{{- if $resizer }}
- apiGroups: [""]
  resources: [persistentvolumeclaims/status]
  verbs: [patch]
{{- end }}
{{- if or $provisioner $resizer $snapshotter $monitor }}
- apiGroups: [""]
  resources: [events]
  # patch: an event that comes again is counted.
  verbs: [create, patch]
{{- end }}
{{- if $monitor }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
{{- if $provisioner }}
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [list, watch]
{{- end }}
{{- if or $provisioner $attacher }}
- apiGroups: [storage.k8s.io]
  resources: [volumeattachments]
  # The provisioner waits for the last detachment before it deletes; the attacher sets its finalizer.
  verbs: {{ ternary (list "list" "watch" "patch") (list "list" "watch") $attacher | toJson }}
{{- end }}
{{- if $attacher }}
- apiGroups: [storage.k8s.io]
  resources: [volumeattachments/status]
  verbs: [patch]
{{- end }}
{{- if or $attacher $capacity }}
- apiGroups: [storage.k8s.io]
  resources: [csinodes]
  verbs: [list, watch]
{{- end }}
{{- if $capacity }}
- apiGroups: [""]
  resources: [nodes]
  # Capacity is published for nodes that have the driver.
  verbs: [list, watch]
{{- end }}
{{- if and $modify (or $provisioner $resizer) }}
- apiGroups: [storage.k8s.io]
  resources: [volumeattributesclasses]
  # get: the provisioner reads the class of a new claim.
  verbs: [get, list, watch]
{{- end }}
{{- if $snapshotter }}
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotclasses]
  verbs: [list, watch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents]
  verbs: [get, list, watch, patch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents/status]
  verbs: [update, patch]
{{- if $provisioner }}
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  # update: a finalizer keeps a snapshot while a volume is made from it.
  verbs: [get, list, watch, update]
{{- end }}
{{- end }}
{{- end -}}

{{/* Rules of the controller's account in the release's namespace. */}}
{{- define "hawser.controllerRules" -}}
{{- with include "hawser.leases" . | fromYamlArray }}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  # The leases are made by the chart, so nobody needs to create any.
  resourceNames: {{ toJson . }}
  verbs: [get, update]
- apiGroups: [""]
  resources: [events]
  # Who was elected.
  verbs: [create, patch]
{{- end }}
{{- if .Values.storageCapacity.enabled }}
- apiGroups: [storage.k8s.io]
  resources: [csistoragecapacities]
  verbs: [list, watch, create, update, delete]
- apiGroups: [""]
  resources: [pods]
  # From its pod to the Deployment, which owns the published capacities.
  verbs: [get]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
{{- end }}
{{- end -}}

{{/*
Secrets of classes that the controller's sidecars read, one a line: NAMESPACE NAME. Those of nodes are the kubelet's to
read. A template in place of a namespace or name is a star.
*/}}
{{- define "hawser.controllerSecrets" -}}
{{- $found := list -}}
{{- range .Values.storageClasses -}}
{{- range $use, $ref := pick (.secrets | default dict) "provisioner" "controllerPublish" "controllerExpand" -}}
{{- $found = append $found $ref -}}
{{- end -}}
{{- end -}}
{{- range .Values.volumeSnapshotClasses -}}
{{- with (.secrets | default dict).snapshotter }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- $lines := list -}}
{{- range $found -}}
{{- $namespace := ternary "*" .namespace (contains "${" .namespace) -}}
{{- $name := ternary "*" .name (contains "${" .name) -}}
{{- $lines = append $lines (printf "%s %s" $namespace $name) -}}
{{- end -}}
{{- $lines | uniq | sortAlpha | toJson -}}
{{- end -}}
