// A1: one training from its texts to its artifact: trainer -> corpus -> state (fresh or resumed) -> steps -> quality -> artifact.
// All that decides the artifact's bytes is the recipe, the model and the corpus; a checkpoint names the three and is refused
// for any other, so an interrupted training ends in the bytes of an uninterrupted one.
import { access, rm, writeFile } from 'node:fs/promises';
import type { Trainer, TrainerOptions, TrainingIdentity } from '@spotlight/cuda';
import {
  createTrainer,
  defaultRecipe,
  exportArtifact,
  inspectArtifact,
  readCheckpoint,
  writeCheckpoint,
} from '@spotlight/cuda';
import { ConfigError } from '../config/config.js';
import { defaultCacheFolder } from '../models/cache-folder.js';
import type { ResolvedModel } from '../models/resolve.js';
import { resolveModel } from '../models/resolve.js';
import { openTokenizer } from '../tokenizer/open.js';
import type { TrainConfig } from './config.js';
import { Corpus } from './corpus.js';
import type { Say, TrainEvent } from './events.js';
import { lossPlot } from './loss-plot.js';
import { TrainingLog } from './training-log.js';

/** Queries measured a text, spread over its last eighth. */
const MEASURED_ROWS = 64;
/** Steps between two plots. */
const PLOT_EVERY = 50;

export interface Paths {
  readonly artifact: string;
  readonly checkpoint: string;
  readonly log: string;
  readonly plot: string;
}

export function pathsOf(out: string): Paths {
  const stem = out.replace(/\.safetensors$/, '');
  return {
    artifact: out,
    checkpoint: `${stem}.checkpoint`,
    log: `${stem}.log.jsonl`,
    plot: `${stem}.loss.svg`,
  };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function checkPaths(paths: Paths, resume: boolean): Promise<void> {
  if (await exists(paths.artifact))
    throw new ConfigError([`--out: ${paths.artifact} is there already: remove it or name another file`]);
  const checkpoint = await exists(paths.checkpoint);
  if (resume && !checkpoint)
    throw new ConfigError([
      `--resume: there is no ${paths.checkpoint} to go on from: give the --out of the training that was stopped`,
    ]);
  if (!resume && checkpoint)
    throw new ConfigError([
      `${paths.checkpoint} holds a training that was stopped: go on with it by --resume, or remove it`,
    ]);
}

interface Mean {
  iou: number;
  mass: number;
  layerIou: number[];
  layerMass: number[];
}

/** Whether the signal came; the trainer's call in hand then ended without effect. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

export interface SessionResult {
  /** undefined: stopped on the way, to be resumed. */
  readonly digest: string | undefined;
}

export async function runSession(
  config: TrainConfig,
  say: Say,
  notice: (line: string) => void,
  signal: AbortSignal,
): Promise<SessionResult> {
  const paths = pathsOf(config.out);
  await checkPaths(paths, config.resume);
  const model = await resolveModel(config.model, {
    cache: config.cache ?? defaultCacheFolder(),
    hubUrl: config.hubUrl,
    hubToken: process.env['HF_TOKEN'],
    say: notice,
  });
  const trainer = await createTrainer(trainerOptions(config, model));
  const cancel = (): void => {
    trainer.cancel();
  };
  signal.addEventListener('abort', cancel);
  try {
    return await new Session(config, paths, model, trainer, say, signal).run();
  } finally {
    signal.removeEventListener('abort', cancel);
    await trainer.dispose();
  }
}

function trainerOptions(
  { encoder, recipe, device, threads }: TrainConfig,
  model: ResolvedModel,
): TrainerOptions {
  return {
    model: model.source,
    device,
    ...(threads === undefined ? {} : { threads }),
    recipe: { ...defaultRecipe(encoder), ...recipe },
  };
}

class Session {
  private step = 0;
  private saved = 0;

  constructor(
    private readonly config: TrainConfig,
    private readonly paths: Paths,
    private readonly model: ResolvedModel,
    private readonly trainer: Trainer,
    private readonly report: Say,
    private readonly signal: AbortSignal,
  ) {}

  async run(): Promise<SessionResult> {
    const { trainer, config } = this;
    const tokenizer = await openTokenizer(this.model, trainer, Number.POSITIVE_INFINITY);
    const [separator] = trainer.info.model.eosTokenIds;
    const { sequence, seed } = trainer.recipe;
    const { textField } = config;
    const own = config.validation.length === 0;
    const corpus = await Corpus.open(config.corpus, tokenizer, {
      sequence,
      seed,
      textField,
      separator,
      heldOut: own ? config.validationTexts : 0,
    });
    const texts = own
      ? await this.heldOut(corpus)
      : await (
          await Corpus.open(config.validation, tokenizer, {
            sequence,
            seed,
            textField,
            separator,
            heldOut: 0,
          })
        ).spread(config.validationTexts);
    const identity: TrainingIdentity = {
      model_fingerprint: trainer.info.fingerprint,
      recipe: JSON.stringify(trainer.recipe),
      corpus_digest: corpus.digest,
      corpus_reading: JSON.stringify({ textField, heldOut: corpus.heldOutTexts }),
    };
    if (config.resume) {
      const state = await readCheckpoint(this.paths.checkpoint, identity);
      await trainer.load(state);
      this.step = state.step;
    }
    const log = await TrainingLog.open(this.paths.log, this.step);
    const say = (event: TrainEvent): void => {
      log.add(event);
      this.report(event);
    };
    say(this.started(corpus));
    try {
      if (this.step === 0) say(this.qualityEvent(await this.measure(texts), texts.length));
      await this.steps(corpus, identity, log, say);
      const quality = await this.measure(texts);
      say(this.qualityEvent(quality, texts.length));
      const digest = await this.finish(quality, texts.length, identity, corpus, log);
      say({
        event: 'artifact',
        step: this.step,
        path: this.paths.artifact,
        digest,
        iou: quality.iou,
        mass: quality.mass,
      });
      await rm(this.paths.checkpoint, { force: true });
      return { digest };
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      await this.save(identity);
      await this.plot(log);
      say({ event: 'stopped', step: this.step, checkpoint: this.paths.checkpoint });
      return { digest: undefined };
    }
  }

  private async heldOut(corpus: Corpus): Promise<number[][]> {
    const texts: number[][] = [];
    for (let i = 0; i < corpus.heldOutTexts; i++) texts.push(await corpus.heldOut(i));
    return texts;
  }

  private async steps(corpus: Corpus, identity: TrainingIdentity, log: TrainingLog, say: Say): Promise<void> {
    const { trainer } = this;
    this.saved = performance.now();
    let next = corpus.text(this.step);
    while (this.step < trainer.recipe.steps) {
      const tokens = await next;
      const start = performance.now();
      // The next text is read while this one is trained on.
      next = this.step + 1 < trainer.recipe.steps ? corpus.text(this.step + 1) : Promise.resolve([]);
      next.catch(() => undefined);
      const done = this.signal.aborted ? undefined : await trainer.step(tokens);
      if (done === undefined) throw new Interrupted();
      this.step = done.step;
      say({
        event: 'step',
        step: done.step,
        loss: done.loss,
        learningRate: done.learningRate,
        tokens: tokens.length,
        seconds: (performance.now() - start) / 1000,
        captureSeconds: done.captureSeconds,
        trainSeconds: done.trainSeconds,
      });
      if (performance.now() - this.saved >= this.config.checkpointEveryMs) await this.save(identity);
      if (this.step % PLOT_EVERY === 0) await this.plot(log);
    }
  }

  private async save(identity: TrainingIdentity): Promise<void> {
    await writeCheckpoint(this.paths.checkpoint, await this.trainer.save(), identity);
    this.saved = performance.now();
  }

  private plot(log: TrainingLog): Promise<void> {
    return writeFile(this.paths.plot, lossPlot(log.losses, `${this.model.id}: loss by step`));
  }

  private async measure(texts: readonly number[][]): Promise<Mean> {
    const mean: Mean = { iou: 0, mass: 0, layerIou: [], layerMass: [] };
    const add = (to: number[], values: Float64Array): void => {
      values.forEach((value, i) => {
        to[i] = (to[i] ?? 0) + value / texts.length;
      });
    };
    for (const tokens of texts) {
      const found = this.signal.aborted
        ? undefined
        : await this.trainer.measure(tokens, Math.min(MEASURED_ROWS, tokens.length >> 3));
      if (found === undefined) throw new Interrupted();
      mean.iou += found.iou / texts.length;
      mean.mass += found.mass / texts.length;
      add(mean.layerIou, found.layerIou);
      add(mean.layerMass, found.layerMass);
    }
    return mean;
  }

  /** The artifact, read back by the reader that serves it. */
  private async finish(
    quality: Mean,
    texts: number,
    identity: TrainingIdentity,
    corpus: Corpus,
    log: TrainingLog,
  ): Promise<string> {
    const { trainer, paths } = this;
    // Before the artifact: killed in between, the training is resumed at its end and writes the same bytes.
    await this.save(identity);
    await this.plot(log);
    const { weights } = await trainer.save();
    const round = (value: number): number => Number(value.toFixed(4));
    await exportArtifact(paths.artifact, trainer.info, trainer.recipe, weights, {
      model: this.model.id,
      corpus_digest: corpus.digest,
      corpus_reading: identity['corpus_reading'] ?? '',
      steps: String(this.step),
      quality: JSON.stringify({
        iou: round(quality.iou),
        mass: round(quality.mass),
        texts,
        tokens: trainer.recipe.sequence,
        held_out: this.config.validation.length === 0,
        layer_iou: quality.layerIou.map(round),
        layer_mass: quality.layerMass.map(round),
      }),
    });
    return (await inspectArtifact(paths.artifact)).digest;
  }

  private started(corpus: Corpus): TrainEvent {
    const { info, recipe } = this.trainer;
    return {
      event: 'start',
      model: this.model.id,
      fingerprint: info.fingerprint,
      device: info.deviceName,
      threads: info.threads,
      encoder: recipe.encoder,
      bits: recipe.bits,
      layers: info.layers.length,
      steps: recipe.steps,
      step: this.step,
      tokensAStep: recipe.sequence,
      texts: corpus.texts,
      corpusDigest: corpus.digest,
    };
  }

  private qualityEvent(quality: Mean, texts: number): TrainEvent {
    return { event: 'quality', step: this.step, ...quality, texts };
  }
}
