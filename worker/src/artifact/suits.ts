// Whether an artifact can stand beside the one that is served: both slots share encoder, width and dense layers, since caches,
// launches and settings are made for one form. Pure.
import type { ArtifactInfo } from '@spotlight/cuda';

/** Why `next` cannot be held beside `served`; undefined when it can. */
export function misfit(next: ArtifactInfo, served: ArtifactInfo): string | undefined {
  const differences: string[] = [];
  if (next.encoder !== served.encoder)
    differences.push(`encoder ${next.encoder} where ${served.encoder} is served`);
  if (next.bits !== served.bits) differences.push(`${next.bits} bits a code where ${served.bits} are served`);
  if (next.layers.join() !== served.layers.join())
    differences.push(
      `codes of layers ${ranges(next.layers)} where those of ${ranges(served.layers)} are served`,
    );
  if (differences.length === 0) return undefined;
  return (
    `artifact ${next.digest} has ${differences.join(', ')}: ` +
    'that cannot be swapped into a running worker, roll it out to workers started with it'
  );
}

/** [0, 1, 2, 5] -> "0-2, 5". */
function ranges(layers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const layer of layers) {
    const last = parts.at(-1);
    if (last?.[1] === layer - 1) last[1] = layer;
    else parts.push([layer, layer]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ') || 'none';
}
