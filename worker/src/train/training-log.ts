// The log of a training, one JSON object a line. A resumed training drops what came after its checkpoint: those steps run again,
// and a log that held them twice would tell of a training that never was.
import { appendFileSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import type { TrainEvent } from './events.js';
import type { LossPoint } from './loss-plot.js';

function parse(line: string): TrainEvent | undefined {
  try {
    return JSON.parse(line) as TrainEvent;
  } catch {
    // The last line of a killed process may be half a one.
    return undefined;
  }
}

export class TrainingLog {
  private constructor(
    private readonly path: string,
    readonly losses: LossPoint[],
  ) {}

  /** [async] Starts a log, or with step > 0 goes on with the one at `path` from there. */
  static async open(path: string, step: number): Promise<TrainingLog> {
    const old = step > 0 ? await readFile(path, 'utf8').catch(() => '') : '';
    const kept = old
      .split('\n')
      .map(parse)
      .filter((event) => event !== undefined && event.event !== 'stopped' && event.step <= step)
      .filter((event) => event !== undefined);
    const partial = `${path}.${process.pid}.partial`;
    await writeFile(partial, kept.map((event) => `${JSON.stringify(event)}\n`).join(''));
    await rename(partial, path);
    const losses = kept.flatMap((event) =>
      event.event === 'step' ? [{ step: event.step, loss: event.loss }] : [],
    );
    return new TrainingLog(path, losses);
  }

  add(event: TrainEvent): void {
    if (event.event === 'step') this.losses.push({ step: event.step, loss: event.loss });
    appendFileSync(this.path, `${JSON.stringify(event)}\n`);
  }
}
