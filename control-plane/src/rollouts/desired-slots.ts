// Which artifacts each worker of a deployment should hold and run new requests under. Derived from the deployment, its rollout and
// what workers were told so far, so that it may be computed again at any time: a worker once taken stays taken while the rollout
// goes forward, whoever comes or goes. Pure.
import type { DesiredArtifact } from '../storage/schema.js';
import { waveSize } from './decide.js';
import type { RolloutState } from './decide.js';
import { hasEnded } from './rollout.js';

export interface DirectedWorker {
  readonly id: string;
  /** What it is told now; none leaves it with what it came with. */
  readonly told: readonly DesiredArtifact[];
  /** Joined and taking requests. */
  readonly ready: boolean;
  readonly holds: readonly string[];
}

/** @returns by worker id; every worker given has an entry */
export function desiredSlots(
  deployment: { readonly active: string | null; readonly asJoined: boolean },
  rollout: RolloutState | undefined,
  workers: readonly DirectedWorker[],
): Map<string, readonly DesiredArtifact[]> {
  const { active } = deployment;
  if (active === null) return new Map(workers.map(({ id, told }) => [id, told]));
  if (rollout === undefined || hasEnded(rollout.phase) || rollout.phase === 'rolling_back') {
    const only = [{ digest: active, active: true }];
    // Nobody ever chose for these workers: they keep what they came with.
    return new Map(
      workers.map(({ id, told }) => [id, deployment.asJoined && told.length === 0 ? told : only]),
    );
  }
  return forward(rollout, workers);
}

/** A deployment as far as its workers that are away are concerned. */
export interface Standing {
  readonly active: string | null;
  /** Of a rollout that goes forward. */
  readonly candidate: string | undefined;
}

/**
 * What a worker that is away should be told instead when it comes back, undefined to leave it as it is: one that still holds what was
 * taken back meanwhile must not begin with that.
 * @param deployments of its model
 */
export function desiredAway(
  told: readonly DesiredArtifact[],
  deployments: readonly Standing[],
): readonly DesiredArtifact[] | undefined {
  const known = deployments.flatMap(({ active, candidate }) => [active, candidate]);
  if (told.every(({ digest }) => known.includes(digest))) return undefined;
  const own =
    deployments.find(({ active }) => told.some(({ digest }) => digest === active)) ??
    (deployments.length === 1 ? deployments[0] : undefined);
  return own === undefined || own.active === null ? undefined : [{ digest: own.active, active: true }];
}

export function sameSlots(a: readonly DesiredArtifact[], b: readonly DesiredArtifact[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ digest, active }, i) => digest === b[i]?.digest && active === b[i].active)
  );
}

function forward(
  { stable, candidate, phase, wave, plan }: RolloutState,
  workers: readonly DirectedWorker[],
): Map<string, readonly DesiredArtifact[]> {
  const ready = workers.filter((worker) => worker.ready);
  const isTold = ({ told }: DirectedWorker): boolean => told.some(({ digest }) => digest === candidate);
  const isFlipped = ({ told }: DirectedWorker): boolean =>
    told.some(({ digest, active }) => active && digest === candidate);

  const loading = ready.filter((worker) => isTold(worker) && !worker.holds.includes(candidate)).length;
  const staged = take(
    ready.filter((worker) => !isTold(worker)),
    plan.stageAtOnce - loading,
  );
  const room = phase === 'waves' ? waveSize(plan, wave, ready.length) - ready.filter(isFlipped).length : 0;
  const flipped = take(
    ready.filter((worker) => !isFlipped(worker) && worker.holds.includes(candidate)),
    room,
  );

  return new Map(
    workers.map((worker) => {
      if (isFlipped(worker) || flipped.has(worker)) return [worker.id, slots(candidate, stable)];
      if (isTold(worker) || staged.has(worker)) return [worker.id, slots(stable, candidate)];
      return [worker.id, worker.told];
    }),
  );
}

function slots(active: string, other: string): DesiredArtifact[] {
  return [
    { digest: active, active: true },
    { digest: other, active: false },
  ];
}

function take<T>(from: readonly T[], count: number): Set<T> {
  return new Set(from.slice(0, Math.max(0, count)));
}
