// POST /v1/completions.
import { Body, Controller, Headers, Inject, Post, Res } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Requires } from '../auth/auth.guard.js';
import { readCompletionRequest } from './completion-request.js';
import { CompletionShape } from './completion-shape.js';
import { Responder } from './responder.js';

@Controller('v1/completions')
@Requires('generate')
export class CompletionsController {
  constructor(@Inject(Responder) private readonly responder: Responder) {}

  @Post()
  create(
    @Body() body: unknown,
    @Headers('x-session-id') sessionId: string | undefined,
    @Headers('x-spotlight-artifact') artifact: string | undefined,
    @Headers('x-spotlight-canary-key') canaryKey: string | undefined,
    @Res() response: ServerResponse,
  ): Promise<void> {
    const request = readCompletionRequest(body);
    const wish = { artifact, canaryKey };
    return this.responder.answer({ request, shape: new CompletionShape(request), sessionId, wish, response });
  }
}
