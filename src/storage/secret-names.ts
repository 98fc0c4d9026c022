const SECRET_WORDS =
  /secret|passw(or)?d|passphrase|credential|token|private[-_.]?key|api[-_.]?key|chap[-_.]?(key|pass)/i;

/**
 * Does a parameter or attribute of this name look as if it held a secret? Such names are refused where anybody can
 * read the value (StorageClass, PersistentVolume), and their values never reach a log.
 */
export function isSecretLikeName(name: string): boolean {
  return SECRET_WORDS.test(name) || /^node\.(session|sendtargets|discovery)\.auth\./i.test(name);
}
