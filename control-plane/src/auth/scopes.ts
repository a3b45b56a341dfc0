// What a key may do. `admin` includes the others: an operator's key that could not generate would only be annoying.
export const SCOPES = ['generate', 'admin', 'worker'] as const;
export type Scope = (typeof SCOPES)[number];

export function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text);
}

export function allows(held: readonly Scope[], needed: Scope): boolean {
  return held.includes(needed) || held.includes('admin');
}
