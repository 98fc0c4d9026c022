{{/* Folders of a node that the node plugin and the dataplane share. */}}
{{- define "hawser.nodeFolders" -}}
- name: runtime
  mountPath: /run/hawser
- name: state
  mountPath: /var/lib/hawser
{{- end -}}

{{- define "hawser.nodeFolderVolumes" -}}
- name: runtime
  hostPath:
    path: /run/hawser
    type: DirectoryOrCreate
- name: state
  hostPath:
    path: /var/lib/hawser
    type: DirectoryOrCreate
{{- end -}}
