// `spotlight artifact diff`: what two artifacts do not have in common. Like diff, it ends with 1 when something differs.
import type { ArtifactComparison } from '@spotlight/cuda';
import type { Command } from 'commander';

const MOST_SHOWN = 96;

const short = (text = '-'): string => (text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN - 1)}…` : text);

/** Lines for a person; none when nothing differs. */
export function describeComparison({ layout, metadata, layers }: ArtifactComparison): string[] {
  const lines: string[] = [];
  for (const { field, first, second } of layout) lines.push(`${field}: ${first} -> ${second}`);
  for (const { key, first, second } of metadata) {
    lines.push(`metadata ${key}:`, `  - ${short(first)}`, `  + ${short(second)}`);
  }
  for (const { layer, presence, distance, cosine } of layers) {
    if (presence !== 'both') lines.push(`layer ${layer}: in the ${presence} file only`);
    else if (distance === undefined) lines.push(`layer ${layer}: of another shape`);
    else if (distance > 0)
      lines.push(`layer ${layer}: distance ${distance.toPrecision(3)}, cosine ${(cosine ?? 0).toFixed(4)}`);
  }
  return lines;
}

export function addDiffCommand(artifact: Command): void {
  artifact
    .command('diff')
    .description('compare two artifacts: dims, metadata, weights by layer; exit 1 if they differ')
    .argument('<first>')
    .argument('<second>')
    .option('--json', 'one JSON object')
    .action(async (first: string, second: string, { json }: { json?: true }) => {
      const { compareArtifacts, inspectArtifact } = await import('@spotlight/cuda');
      // The native reader checks every value: a comparison with a damaged file would say nothing.
      await Promise.all([inspectArtifact(first), inspectArtifact(second)]);
      const comparison = await compareArtifacts(first, second);
      const lines = describeComparison(comparison);
      const text = json ? JSON.stringify(comparison) : lines.length > 0 ? lines.join('\n') : 'no difference';
      process.stdout.write(`${text}\n`);
      if (lines.length > 0) process.exitCode = 1;
    });
}
