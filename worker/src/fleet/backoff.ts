// When to try again: doubling waits with full jitter, so that workers of a fleet do not come back all in one moment. Pure.

export interface BackoffLimits {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * @param failures attempts that failed since the last that held, at least 1
 * @param draw in [0, 1)
 */
export function waitBefore(failures: number, draw: number, { firstMs, mostMs }: BackoffLimits): number {
  const ceiling = Math.min(mostMs, firstMs * 2 ** Math.min(failures - 1, 30));
  return Math.round(ceiling * (0.5 + draw / 2));
}
