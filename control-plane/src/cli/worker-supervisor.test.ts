// Real processes: a worker that dies is restarted, one that may not be restarted stays down, and none outlives its supervisor.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nextRestart } from './restart-policy.js';
import { WorkerSupervisor } from './worker-supervisor.js';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('nextRestart', () => {
  it('doubles the wait up to a limit and forgets after a long life', () => {
    const waits = [0, 1, 2, 3, 10].map((failures) => nextRestart(failures, 100).waitMs);
    assert.deepEqual(waits, [500, 1000, 2000, 4000, 30_000]);
    assert.deepEqual(nextRestart(10, 3_600_000), { failures: 1, waitMs: 500 });
  });
});

describe('WorkerSupervisor', () => {
  let folder: string;
  let steady: string;
  let failing: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spotlight-supervisor-'));
    steady = join(folder, 'steady.mjs');
    failing = join(folder, 'failing.mjs');
    // Ends with its parent as a worker does under --exit-with-parent.
    await writeFile(
      steady,
      "process.stdin.resume().on('end', () => process.exit()); setInterval(() => {}, 1000);",
    );
    await writeFile(failing, 'process.exit(7);');
  });

  after(() => rm(folder, { recursive: true, force: true }));

  it('restarts a worker that was killed, and stop() ends it for good', async () => {
    const pids: number[] = [];
    const exits: string[] = [];
    const supervisor = new WorkerSupervisor({
      events: {
        started: (_name, pid) => pids.push(pid),
        exited: (_name, how, waitMs) => exits.push(`${how} ${waitMs}`),
      },
      mayRestart: () => true,
    });
    supervisor.start({ name: 'worker 0', args: [steady] });
    await until(() => pids.length === 1);
    process.kill(pids[0]!, 'SIGKILL');
    await until(() => pids.length === 2);
    assert.deepEqual(exits, ['signal SIGKILL 500']);
    await supervisor.stop();
    assert.ok(!alive(pids[1]!));
    assert.equal(exits.length, 1, 'stopping is not an exit');
  });

  it('leaves a worker down that may not be restarted', async () => {
    const exits: [string, number | undefined][] = [];
    const supervisor = new WorkerSupervisor({
      events: { started: () => undefined, exited: (_name, how, waitMs) => exits.push([how, waitMs]) },
      mayRestart: () => false,
    });
    supervisor.start({ name: 'worker 0', args: [failing] });
    await until(() => exits.length === 1);
    assert.deepEqual(exits, [['status 7', undefined]]);
    await supervisor.stop();
  });

  it('takes its workers with it when it is killed with -9', async () => {
    const script = join(folder, 'parent.mjs');
    await writeFile(
      script,
      `import { WorkerSupervisor } from ${JSON.stringify(new URL('./worker-supervisor.js', import.meta.url).href)};
       new WorkerSupervisor({
         events: { started: (name, pid) => process.stdout.write(String(pid) + '\\n'), exited: () => {} },
         mayRestart: () => true,
       }).start({ name: 'worker 0', args: [${JSON.stringify(steady)}] });`,
    );
    const parent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(line.toString());
    assert.ok(alive(pid));
    parent.kill('SIGKILL');
    await until(() => !alive(pid));
  });
});
