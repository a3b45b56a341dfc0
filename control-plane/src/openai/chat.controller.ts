// POST /v1/chat/completions.
import { Body, Controller, Headers, Inject, Post, Res } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Requires } from '../auth/auth.guard.js';
import { ChatShape } from './chat-shape.js';
import { readChatRequest } from './chat-request.js';
import { Responder } from './responder.js';

@Controller('v1/chat/completions')
@Requires('generate')
export class ChatController {
  constructor(@Inject(Responder) private readonly responder: Responder) {}

  @Post()
  create(
    @Body() body: unknown,
    @Headers('x-session-id') sessionId: string | undefined,
    @Headers('x-spotlight-artifact') artifact: string | undefined,
    @Headers('x-spotlight-canary-key') canaryKey: string | undefined,
    @Res() response: ServerResponse,
  ): Promise<void> {
    const request = readChatRequest(body);
    const wish = { artifact, canaryKey };
    return this.responder.answer({ request, shape: new ChatShape(request), sessionId, wish, response });
  }
}
