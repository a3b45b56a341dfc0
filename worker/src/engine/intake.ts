// From a submitted request to one the scheduler may take, or the error that says why not: validation, the artifact slot
// it is pinned to for life, and the salt of its cache keys.
import { randomBytes } from 'node:crypto';
import { EVICTING_SELECTORS } from '@spotlight/cuda';
import type { AttentionSettings, BackendName, Engine, SlotId } from '@spotlight/cuda';
import { ErrorCode } from '@spotlight/proto';
import type { Error as WireError } from '@spotlight/proto';
import type { SlotTable } from '../artifact/slots.js';
import type { EngineRequest, TokenTexts } from './api.js';
import type { Client } from './clients.js';
import { refusal } from './refusal.js';
import { Request } from './request.js';
import { isRefusal, validate } from './validate.js';
import type { RequestLimits, ResolvedAttention } from './validate.js';

export interface IntakeOptions {
  readonly native: Engine;
  readonly texts: TokenTexts;
  /** The deployment's settings, and their digest. */
  readonly attention: AttentionSettings;
  readonly settingsDigest: string;
  /** Context limit of the deployment, tokens; never above the model's own, which is the default. */
  readonly maxModelLen?: number;
  /** Which slot requests are pinned to. Default: slot 0, and by digest whatever the native engine holds. */
  readonly slots?: Pick<SlotTable, 'active' | 'find'>;
}

export class Intake {
  readonly #limits: RequestLimits;
  #arrivals = 0;

  /** @param sequences choices that can run at once */
  constructor(
    private readonly options: IntakeOptions,
    sequences: number,
  ) {
    const { model, blocks } = options.native.info;
    const maxModelLen = Math.min(model.maxModelLen, options.maxModelLen ?? model.maxModelLen);
    const { selectors } = options.native.info;
    this.#limits = { model: { vocabSize: model.vocabSize, maxModelLen }, blocks, sequences, selectors };
  }

  take(source: EngineRequest, client: Client, now: number): Request | WireError {
    if (client.requests.has(source.requestId)) {
      const message = `request_id "${source.requestId}" is in use on this stream; give each request its own`;
      return refusal(ErrorCode.CONFLICT, message, 'request_id');
    }
    const { native, texts } = this.options;
    const resolved = validate(source, this.#limits, randomBytes(8).readBigUInt64LE());
    if (isRefusal(resolved)) return resolved;
    const slot = source.measure?.slot ?? this.#slot(source.artifactDigest);
    if (slot === undefined) {
      const message = `artifact ${source.artifactDigest} is not loaded here; try another worker, or leave artifact_digest empty for the active one`;
      // Another worker may hold it, and this one may soon.
      return { ...refusal(ErrorCode.FAILED_PRECONDITION, message, 'artifact_digest'), retryable: true };
    }
    const artifactDigest = native.artifacts[slot]?.digest ?? '';
    if (resolved.attention.backend === 'spotlight' && artifactDigest === '') {
      const message =
        'attention.backend "spotlight" needs an artifact and none is loaded; ask for "dense" or load one';
      return refusal(ErrorCode.FAILED_PRECONDITION, message, 'attention.backend');
    }
    const salt = this.#salt(resolved.attention, artifactDigest, source.requestId);
    const backend = resolved.attention.backend ?? this.options.attention.backend;
    return new Request(source, resolved, {
      arrival: this.#arrivals++,
      at: now,
      slot,
      artifactDigest,
      // A measurement retrieves in contexts that clients' requests attend to densely.
      salt: source.measure === undefined ? salt : `${salt ?? ''}\nmeasured`,
      retrieves: backend === 'spotlight' && artifactDigest !== '',
      // What an evicting method keeps depends on every query of the prompt: no prefix hit may hide one.
      ...(evicts(backend) && { saltFrom: 0 }),
      texts,
      client,
    });
  }

  #slot(digest: string): SlotId | undefined {
    const { native, slots } = this.options;
    if (digest === '') return slots?.active ?? 0;
    if (slots !== undefined) return slots.find(digest);
    return ([0, 1] as const).find((slot) => native.artifacts[slot]?.digest === digest);
  }

  /** What K and V depend on besides the tokens, from the first generated token on. */
  #salt(attention: ResolvedAttention, artifactDigest: string, requestId: string): string | undefined {
    const backend = attention.backend ?? this.options.attention.backend;
    const { settingsDigest } = this.options;
    const own = [settingsDigest, attention.fraction ?? '', attention.tail ?? ''];
    if (backend === 'dense') return undefined;
    if (backend !== 'spotlight') return [backend, ...own, evicts(backend) ? requestId : ''].join('\n');
    return artifactDigest === '' ? undefined : [artifactDigest, ...own].join('\n');
  }
}

function evicts(backend: BackendName): boolean {
  return EVICTING_SELECTORS.some((name) => name === backend);
}
