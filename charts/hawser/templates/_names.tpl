{{/* Names and labels. */}}

{{- define "hawser.driver" -}}csi.hawser.dev{{- end -}}

{{- define "hawser.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for every suffix that is added to it. */}}
{{- define "hawser.fullname" -}}
{{- $name := include "hawser.name" . -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $release | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hawser.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{/* What selects the pods of a component: (list ROOT COMPONENT). Never changes between versions. */}}
{{- define "hawser.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "hawser.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Every object's labels: (list ROOT COMPONENT). */}}
{{- define "hawser.labels" -}}
{{- $root := index . 0 -}}
{{- include "hawser.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: hawser
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name and labels of an object: (list ROOT COMPONENT NAME). */}}
{{- define "hawser.metadata" -}}
name: {{ index . 2 }}
namespace: {{ include "hawser.namespace" (index . 0) }}
labels:
  {{- include "hawser.labels" . | nindent 2 }}
{{- end -}}

{{/* The same for an object of the whole cluster. */}}
{{- define "hawser.clusterMetadata" -}}
name: {{ index . 2 }}
labels:
  {{- include "hawser.labels" . | nindent 2 }}
{{- end -}}

{{/* The name of a component's service account: (list ROOT COMPONENT). */}}
{{- define "hawser.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (printf "%s-%s" (include "hawser.fullname" $root) (index . 1)) -}}
{{- else -}}
{{- $account.name | required (printf "%s.serviceAccount.create is false: name an existing one in %s.serviceAccount.name" (index . 1) (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* A full image reference: (list ROOT IMAGE). A digest wins over a tag. */}}
{{- define "hawser.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.global.imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ $image.tag | default $root.Chart.AppVersion }}{{- end -}}
{{- end -}}
