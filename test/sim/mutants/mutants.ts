export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly search: string;
  readonly replacement: string;
}
export const MUTANTS: readonly Mutant[] = [];
