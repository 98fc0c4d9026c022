{{/* Is there something to test with? */}}
{{- define "hawser.test.on" -}}
{{- if and .Values.tests.enabled (or .Values.tests.existingClaim (include "hawser.test.storageClass" .)) }}true{{ end -}}
{{- end -}}

{{- define "hawser.test.storageClass" -}}
{{- if .Values.tests.storageClass -}}
{{- .Values.tests.storageClass -}}
{{- else if and .Values.storageClasses (include "hawser.provisioner.on" .) -}}
{{- (first .Values.storageClasses).name -}}
{{- end -}}
{{- end -}}

{{/* Hooks run by weight, each when the one before has ended; they go when all have succeeded, or before the next run. */}}
{{- define "hawser.test.hook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* A pod that has nothing but the volume: (list ROOT CLAIM). */}}
{{- define "hawser.test.pod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 5
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if not (index . 0).Values.openshift.enabled }}
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: volume
    persistentVolumeClaim:
      claimName: {{ index . 1 }}
{{- end -}}

{{/* The rest of its container: (list ROOT IMAGE). */}}
{{- define "hawser.test.container" -}}
image: {{ index . 1 }}
imagePullPolicy: {{ (index . 0).Values.image.pullPolicy }}
resources:
  requests:
    cpu: 10m
    memory: 16Mi
securityContext:
  {{- include "hawser.restricted" (index . 0) | nindent 2 }}
volumeMounts:
  - name: volume
    mountPath: /volume
{{- end -}}
