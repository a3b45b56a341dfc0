// Tokens of a text or a chat as a worker of the model would see them; the control plane has no tokenizer of its own.
import { Inject, Injectable } from '@nestjs/common';
import type { EncodeRequest, TokenizeResponse } from '@spotlight/proto';
import { invalidArgument } from '../errors/service-error.js';
import { RoutingService } from '../routing/routing.service.js';
import type { WorkerFleet } from '../workers/api.js';
import { WORKER_FLEET } from '../workers/api.js';

@Injectable()
export class TokenizeService {
  constructor(
    @Inject(RoutingService) private readonly router: Pick<RoutingService, 'resolveModel' | 'route'>,
    @Inject(WORKER_FLEET) private readonly fleet: Pick<WorkerFleet, 'encode'>,
  ) {}

  /**
   * @param model empty is the only model served
   * @param addSpecialTokens default true: what a request with this prompt would run
   * Rejects with a ServiceError: no prompt, unknown model, no worker.
   */
  async tokenize(
    model: string,
    prompt: EncodeRequest['prompt'],
    addSpecialTokens: boolean | undefined,
  ): Promise<TokenizeResponse> {
    if (prompt === undefined) throw invalidArgument('prompt', 'prompt is missing; give text or a chat.');
    const worker = this.router.route({
      model: this.router.resolveModel(model),
      sessionId: undefined,
      prefixHashes: [],
      promptBytes: 0,
      exclude: new Set(),
      artifactDigest: '',
      replay: undefined,
    });
    const { tokenIds, tokens } = await this.fleet.encode(worker.workerId, { prompt, addSpecialTokens });
    return { tokenIds, tokens, maxModelLen: worker.model.maxModelLen };
  }
}
