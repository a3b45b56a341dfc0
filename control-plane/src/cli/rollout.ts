// `spotlight rollout start|status|list|pause|resume|promote|abort`: a deployment's artifact changed on a running server. --watch follows
// a rollout to its end, one line a change; the command then fails when the rollout did.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { RolloutDetail, RolloutView } from '../rollouts/rollout-view.js';
import type { AdminFlags } from './admin-client.js';
import { addAdminOptions, AdminClient } from './admin-client.js';
import { CliError } from './cli-error.js';
import { numberIn } from './generation-options.js';
import { printRows, printTable } from './table.js';

interface Flags extends AdminFlags {
  readonly json?: true;
}
interface WatchFlags extends Flags {
  readonly watch?: true;
}
interface StartFlags extends WatchFlags {
  readonly deployment?: string;
  readonly share?: number;
  readonly waves?: readonly number[];
  readonly stageAtOnce?: number;
  readonly hold?: number;
  readonly timeout?: number;
  readonly minRequests?: number;
  readonly gate?: Readonly<Record<string, number | null>>;
  readonly force?: true;
  readonly reason: string;
}
interface OrderFlags extends Flags {
  readonly reason: string;
}

const LOOK_MS = 500;
const ENDED = ['done', 'rolled_back', 'aborted', 'failed'];
/** Flag of a gate -> its name in the plan. */
const GATES: Readonly<Record<string, string>> = {
  'kept-mass': 'keptMassDrop',
  iou: 'iouDrop',
  errors: 'errorRateRise',
  'first-token': 'firstTokenRatio',
  'inter-token': 'interTokenRatio',
};

export function parseWaves(text: string): readonly number[] {
  const waves = text.split(',').map(Number);
  if (waves.some((wave) => !(wave > 0 && wave <= 1))) {
    throw new CliError(`--waves "${text}" must be parts of the workers up to 1, such as 0.25,0.5,1.`, 2);
  }
  return waves;
}

/** `kept-mass=0.05` or `iou=off`, once or more often. */
export function parseGate(
  text: string,
  before: Readonly<Record<string, number | null>> = {},
): Readonly<Record<string, number | null>> {
  const [name = '', value = ''] = text.split('=');
  const gate = GATES[name];
  const limit = value === 'off' ? null : Number(value);
  if (gate === undefined || value === '' || Number.isNaN(limit)) {
    const names = Object.keys(GATES).join(', ');
    throw new CliError(`--gate "${text}" must be NAME=LIMIT or NAME=off; the names are ${names}.`, 2);
  }
  return { ...before, [gate]: limit };
}

/** The plan's fields that flags give; the server fills in the others. */
export function planOf(flags: Omit<StartFlags, keyof AdminFlags | 'reason'>): Record<string, unknown> {
  const gates = {
    ...flags.gate,
    ...(flags.minRequests === undefined ? {} : { minRequests: flags.minRequests }),
  };
  const fields = {
    share: flags.share,
    waves: flags.waves,
    stageAtOnce: flags.stageAtOnce,
    holdMs: flags.hold === undefined ? undefined : Math.round(flags.hold * 1000),
    timeoutMs: flags.timeout === undefined ? undefined : Math.round(flags.timeout * 1000),
    gates: Object.keys(gates).length === 0 ? undefined : gates,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function json(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function start(artifact: string, flags: StartFlags): Promise<void> {
  const client = new AdminClient(flags);
  const { digest } = await client.ask<{ digest: string }>('GET', `artifacts/${encodeURIComponent(artifact)}`);
  const rollout = await client.ask<RolloutDetail>('POST', 'rollouts', {
    artifact: digest,
    plan: planOf(flags),
    force: flags.force ?? false,
    reason: flags.reason,
    ...(flags.deployment === undefined ? {} : { deployment: flags.deployment }),
  });
  if (flags.watch) await watch(client, rollout.id, flags.json ?? false);
  else show(rollout, flags.json);
}

/** The newest one when no id is given. */
async function status(id: string | undefined, flags: WatchFlags): Promise<void> {
  const client = new AdminClient(flags);
  const wanted =
    id ?? (await client.ask<{ rollouts: RolloutView[] }>('GET', 'rollouts?limit=1')).rollouts[0]?.id;
  if (wanted === undefined) throw new CliError('There has been no rollout yet.');
  if (flags.watch) await watch(client, wanted, flags.json ?? false);
  else show(await client.ask<RolloutDetail>('GET', `rollouts/${encodeURIComponent(wanted)}`), flags.json);
}

async function list(flags: Flags & { readonly deployment?: string }): Promise<void> {
  const query = flags.deployment === undefined ? '' : `?deployment=${encodeURIComponent(flags.deployment)}`;
  const { rollouts } = await new AdminClient(flags).ask<{ rollouts: RolloutView[] }>(
    'GET',
    `rollouts${query}`,
  );
  if (flags.json) {
    json({ rollouts });
    return;
  }
  printTable(
    ['ID', 'DEPLOYMENT', 'STATE', 'FROM', 'TO', 'CREATED', 'REASON'],
    rollouts.map((each) => [
      each.id,
      each.deployment,
      each.state,
      each.stable.slice(0, 12),
      each.candidate.slice(0, 12),
      String(each.created),
      each.reason,
    ]),
  );
}

function order(name: string) {
  return async (id: string, flags: OrderFlags): Promise<void> => {
    const path = `rollouts/${encodeURIComponent(id)}/${name}`;
    show(await new AdminClient(flags).ask<RolloutDetail>('POST', path, { reason: flags.reason }), flags.json);
  };
}

async function watch(client: AdminClient, id: string, asJson: boolean): Promise<void> {
  let told = 0;
  let waits = '';
  for (;;) {
    const rollout = await client.ask<RolloutDetail>('GET', `rollouts/${encodeURIComponent(id)}`);
    for (const event of rollout.events.slice(told)) {
      const where = event.phase === 'waves' ? ` ${event.wave + 1}/${rollout.plan.waves.length}` : '';
      const why = event.reason === '' ? '' : `: ${event.reason}`;
      if (asJson) json({ rollout: id, ...event });
      else process.stdout.write(`${String(event.at)}  ${event.kind}${where}  by ${event.actor}${why}\n`);
    }
    told = rollout.events.length;
    if (ENDED.includes(rollout.phase)) {
      if (rollout.phase !== 'done')
        throw new CliError(`Rollout ${id} ended as ${rollout.phase}: ${rollout.reason}`);
      return;
    }
    if (rollout.waits !== waits && !asJson) process.stdout.write(`  ${rollout.state}: ${rollout.waits}\n`);
    waits = rollout.waits;
    await sleep(LOOK_MS);
  }
}

function show(rollout: RolloutDetail, asJson: true | undefined): void {
  if (asJson) {
    json(rollout);
    return;
  }
  const { plan } = rollout;
  printRows([
    ['id', rollout.id],
    ['deployment', rollout.deployment],
    [
      'state',
      rollout.phase === 'waves' ? `${rollout.state} ${rollout.wave + 1}/${plan.waves.length}` : rollout.state,
    ],
    ['from', rollout.stable],
    ['to', rollout.candidate],
    ['canary share', String(plan.share)],
    ['waits', rollout.waits === '' ? '-' : rollout.waits],
    ['reason', rollout.reason === '' ? '-' : rollout.reason],
    ...rollout.gates.map((gate): [string, string] => [`gate ${gate.gate}`, `${gate.verdict}: ${gate.text}`]),
    ...rollout.workers.map((each): [string, string] => [
      `worker ${each.id}`,
      `${each.active ? 'answers under it' : each.holds ? 'holds it' : each.ready ? 'waits for it' : 'is not ready'}${each.message === '' ? '' : `: ${each.message}`}`,
    ]),
  ]);
}

export function addRolloutCommand(program: Command): void {
  const rollout = program
    .command('rollout')
    .description("change a deployment's artifact under load: staged, canary, waves, done, or taken back");
  const command = (name: string, description: string): Command =>
    addAdminOptions(rollout.command(name).description(description)).option('--json', 'JSON on stdout');
  const watched = (one: Command): Command =>
    one.option('--watch', 'follow it to its end; exit 1 when it is not done');

  watched(command('start', 'roll a validated artifact out'))
    .argument('<digest>', 'or its first digits')
    .option('--deployment <id>', 'the deployment (default: the only one)')
    .option('--share <x>', 'part of the requests the canary gets', numberIn(0, 1))
    .option('--waves <x,y,1>', 'parts of the workers, rising to 1', parseWaves)
    .option('--stage-at-once <n>', 'workers that load it at one time', numberIn(1, 10_000, true))
    .option('--hold <seconds>', 'least time of the canary and of each wave', numberIn(0, 86_400))
    .option('--timeout <seconds>', 'longest time of a phase', numberIn(1, 2_592_000))
    .option('--min-requests <n>', 'requests it must have answered in a phase', numberIn(0, 1_000_000, true))
    .option(
      '--gate <name=limit>',
      `a limit, or off, for ${Object.keys(GATES).join(', ')}; may be repeated`,
      parseGate,
    )
    .option('--force', 'also an artifact that has not passed its validation')
    .option('--reason <text>', 'why, for the audit log', '')
    .action(start);
  watched(command('status', 'what a rollout waits for, its gates and its workers'))
    .argument('[id]', 'default: the newest')
    .action(status);
  command('list', 'rollouts, newest first').option('--deployment <id>', 'of one deployment').action(list);
  for (const [name, what] of [
    ['pause', 'keep it where it is; its gates still take it back'],
    ['resume', 'let it go on'],
    ['promote', 'take it to its end now, without gates and waiting'],
    ['abort', 'take it back'],
  ] as const) {
    command(name, what)
      .argument('<id>')
      .option('--reason <text>', 'why, for the audit log', '')
      .action(order(name));
  }
}
