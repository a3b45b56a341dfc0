// `spotlight artifact push|list|show|validate|retire|delete`: the registry of a running server from a command line.
import type { Command } from 'commander';
import type { ArtifactView } from '../artifacts/artifact-view.js';
import type { ArtifactQuality } from '../storage/schema.js';
import type { AdminFlags } from './admin-client.js';
import { addAdminOptions, AdminClient } from './admin-client.js';
import { push } from './artifact-push.js';
import { CliError } from './cli-error.js';
import { numberIn } from './generation-options.js';
import { printRows, printTable } from './table.js';

interface Flags extends AdminFlags {
  readonly json?: true;
}
interface PushFlags extends Flags {
  readonly parent?: string;
  readonly validate: boolean;
  readonly force?: true;
  readonly deployment?: string;
  readonly rangeSize: number;
  readonly retryFor: number;
}
interface ListFlags extends Flags {
  readonly state?: string;
}
interface ValidateFlags extends Flags {
  readonly deployment?: string;
  readonly force?: true;
}
interface RetireFlags extends Flags {
  readonly reason: string;
}

interface Verdict {
  readonly passed: boolean;
  readonly reason: string;
  readonly deployment: string;
  readonly baseline: ArtifactQuality | null;
  readonly artifact: ArtifactView;
}

const MIB = 2 ** 20;
const PAGE = 200;

function json(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function pushFile(file: string, flags: PushFlags): Promise<void> {
  const client = new AdminClient(flags);
  const shown = process.stderr.isTTY && !flags.json;
  const { artifact, created } = await push(client, file, {
    parent: flags.parent,
    rangeBytes: flags.rangeSize * MIB,
    patienceMs: flags.retryFor * 1000,
    onProgress: (offset, size) => {
      if (shown) process.stderr.write(`\r${((100 * offset) / size).toFixed(0)}% of ${mebibytes(size)} `);
    },
    onTrouble: (line) => {
      process.stderr.write(`${shown ? '\n' : ''}${line}\n`);
    },
  });
  if (shown) process.stderr.write('\n');
  // What was judged already is not judged again for being pushed again.
  if (!flags.validate || artifact.state !== 'draft') {
    if (flags.json) json({ created, artifact });
    else
      process.stdout.write(`${artifact.digest}  ${artifact.state}${created ? '' : '  (was here already)'}\n`);
    return;
  }
  if (!flags.json) process.stdout.write(`${artifact.digest}  pushed, now validating\n`);
  await validate(client, artifact.digest, flags, { created });
}

async function validate(
  client: AdminClient,
  digest: string,
  flags: ValidateFlags,
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const body = {
    force: flags.force ?? false,
    ...(flags.deployment === undefined ? {} : { deployment: flags.deployment }),
  };
  const verdict = await client.ask<Verdict>('POST', `artifacts/${encodeURIComponent(digest)}/validate`, body);
  const { artifact, passed, reason, baseline, deployment } = verdict;
  if (flags.json) json({ ...more, ...verdict });
  else {
    const measured = artifact.quality === null ? '' : `  ${shownQuality(artifact.quality)}`;
    const against = baseline === null ? '' : `, the active one ${shownQuality(baseline)}`;
    process.stdout.write(`${artifact.digest}  ${artifact.state}${measured}${against}  (${deployment})\n`);
    if (passed && reason !== '') process.stdout.write(`forced, though ${reason}\n`);
  }
  if (!passed)
    throw new CliError(`The artifact does not pass: ${reason}. --force lets it pass all the same.`);
}

async function list(flags: ListFlags): Promise<void> {
  const client = new AdminClient(flags);
  const all: ArtifactView[] = [];
  for (;;) {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (flags.state !== undefined) query.set('state', flags.state);
    const last = all.at(-1);
    if (last !== undefined) query.set('after', last.digest);
    const page = await client.ask<{ artifacts: ArtifactView[] }>('GET', `artifacts?${query.toString()}`);
    all.push(...page.artifacts);
    if (page.artifacts.length < PAGE) break;
  }
  if (flags.json) {
    json({ artifacts: all });
    return;
  }
  printTable(
    ['DIGEST', 'STATE', 'ENCODER', 'BITS', 'LAYERS', 'SIZE', 'IOU', 'KEPT', 'ACTIVE IN', 'CREATED'],
    all.map((each) => [
      each.digest.slice(0, 12),
      each.state,
      each.encoder,
      String(each.bits),
      each.layers === null ? '-' : String(each.layers.length),
      each.size === null ? '-' : mebibytes(each.size),
      each.quality?.iou.toFixed(3) ?? '-',
      each.quality?.keptMass.toFixed(3) ?? '-',
      each.deployments.join(' ') || '-',
      String(each.created),
    ]),
  );
}

async function show(digest: string, flags: Flags): Promise<void> {
  const artifact = await new AdminClient(flags).ask<ArtifactView>(
    'GET',
    `artifacts/${encodeURIComponent(digest)}`,
  );
  if (flags.json) {
    json(artifact);
    return;
  }
  const { quality, metadata, layers, deployments, ...rest } = artifact;
  printRows([
    ...Object.entries(rest).map(([name, value]): [string, string] => [
      name,
      value === null ? '-' : String(value),
    ]),
    ['layers', layers?.join(' ') ?? '-'],
    ['deployments', deployments.join(' ') || '-'],
    ['quality', quality === null ? '-' : `${shownQuality(quality)}, by ${quality.workerId} at ${quality.at}`],
    ...Object.entries(metadata ?? {}).map(([name, value]): [string, string] => [`metadata.${name}`, value]),
  ]);
}

async function retire(digest: string, flags: RetireFlags): Promise<void> {
  const path = `artifacts/${encodeURIComponent(digest)}/retire`;
  const artifact = await new AdminClient(flags).ask<ArtifactView>('POST', path, { reason: flags.reason });
  if (flags.json) json(artifact);
  else process.stdout.write(`${artifact.digest}  ${artifact.state}\n`);
}

async function remove(digest: string, flags: Flags): Promise<void> {
  const client = new AdminClient(flags);
  const path = `artifacts/${encodeURIComponent(digest)}`;
  const { digest: whole } = await client.ask<ArtifactView>('GET', path);
  await client.ask('DELETE', `artifacts/${whole}`);
  if (flags.json) json({ deleted: whole });
  else process.stdout.write(`${whole}  deleted\n`);
}

function shownQuality({ iou, keptMass }: Pick<ArtifactQuality, 'iou' | 'keptMass'>): string {
  return `IoU ${iou.toFixed(3)}, kept mass ${keptMass.toFixed(3)}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}

export function addRegistryCommands(artifact: Command): void {
  const command = (name: string, description: string): Command =>
    addAdminOptions(artifact.command(name).description(description)).option('--json', 'JSON on stdout');

  command(
    'push',
    'upload an artifact to a running server and have it validated; goes on where a broken one stopped',
  )
    .argument('<file>')
    .option('--parent <digest>', 'the artifact it was trained on from')
    .option('--no-validate', 'leave it a draft')
    .option('--deployment <id>', 'the deployment that validates it (default: one that serves its model)')
    .option('--force', 'let it pass though it does not reach the bar')
    .option('--range-size <MiB>', 'bytes sent in one request', numberIn(1, 1024, true), 16)
    .option('--retry-for <seconds>', 'go on so long without progress', numberIn(0, 86_400), 120)
    .action(pushFile);
  command('list', 'the artifacts of a running server, latest first')
    .option('--state <state>', 'draft, validated, active, retired or rejected')
    .action(list);
  command('show', 'one artifact of a running server')
    .argument('<digest>', 'or its first digits')
    .action(show);
  command('validate', 'have a worker measure an artifact; exit 1 when it is rejected')
    .argument('<digest>', 'or its first digits')
    .option('--deployment <id>', 'the deployment that validates it (default: one that serves its model)')
    .option('--force', 'let it pass though it does not reach the bar')
    .action((digest: string, flags: ValidateFlags) => validate(new AdminClient(flags), digest, flags));
  command('retire', 'take an artifact out of use for ever')
    .argument('<digest>', 'or its first digits')
    .option('--reason <text>', 'why, for the audit log', '')
    .action(retire);
  command('delete', 'delete an artifact that is not active, with its bytes')
    .argument('<digest>', 'or its first digits')
    .action(remove);
}
