// `spotlight artifact`: inspect, verify, diff and import work on files by the same native reader that serves them, so that a file that
// verifies here is one a worker will load; the others (artifact-registry.ts) are for the registry of a running server.
import type { ArtifactInfo } from '@spotlight/cuda';
import type { Command } from 'commander';
import { addDiffCommand } from './artifact-diff.js';
import { addImportCommand } from './artifact-import.js';
import { addRegistryCommands } from './artifact-registry.js';
import { CliError } from './cli-error.js';
import { printRows } from './table.js';

interface InspectFlags {
  readonly json?: true;
}
interface VerifyFlags extends InspectFlags {
  readonly digest?: string;
  readonly fingerprint?: string;
}

/** Metadata that the rows before it tell already. */
const SHOWN = new Set(['encoder', 'bits', 'head_dim', 'query_heads', 'kv_heads', 'model_fingerprint']);

async function read(file: string): Promise<ArtifactInfo> {
  const { inspectArtifact } = await import('@spotlight/cuda');
  return inspectArtifact(file);
}

function print(info: ArtifactInfo, json: true | undefined): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(info)}\n`);
    return;
  }
  const rows: [string, string][] = [
    ['digest', info.digest],
    ['encoder', info.encoder],
    ['bits', String(info.bits)],
    ['heads', `${info.queryHeads} query, ${info.kvHeads} KV, ${info.headDim} wide`],
    ['layers', info.layers.join(' ')],
    ['fingerprint', info.fingerprint],
    ...Object.entries(info.metadata).filter(([name]) => !SHOWN.has(name)),
  ];
  printRows(rows);
}

/** Throws CliError for the first thing wanted that the artifact is not. */
export function checkArtifact(info: ArtifactInfo, wanted: Omit<VerifyFlags, 'json'>): void {
  if (wanted.digest !== undefined && wanted.digest !== info.digest) {
    throw new CliError(`The file's digest is ${info.digest}, not ${wanted.digest}. Fetch it again.`);
  }
  if (wanted.fingerprint !== undefined && wanted.fingerprint !== info.fingerprint) {
    throw new CliError(
      `The artifact was made for model ${info.fingerprint}, not ${wanted.fingerprint}. Use the artifact of this model.`,
    );
  }
}

export function addArtifactCommand(program: Command): void {
  const artifact = program
    .command('artifact')
    .description('hash artifacts: a file looked into, a registry worked with');
  artifact
    .command('inspect')
    .description('print what the file says of itself')
    .argument('<file>')
    .option('--json', 'one JSON object')
    .action(async (file: string, flags: InspectFlags) => {
      print(await read(file), flags.json);
    });
  artifact
    .command('verify')
    .description('read every tensor, compare with what is wanted; exit 1 if it does not hold')
    .argument('<file>')
    .option('--digest <sha256>', 'the digest it must have')
    .option('--fingerprint <hex>', 'the model fingerprint it must be made for')
    .option('--json', 'one JSON object')
    .action(async (file: string, flags: VerifyFlags) => {
      const info = await read(file);
      checkArtifact(info, flags);
      print(info, flags.json);
    });
  addRegistryCommands(artifact);
  addDiffCommand(artifact);
  addImportCommand(artifact);
}
