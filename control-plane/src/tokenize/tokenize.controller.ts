// POST /tokenize, in vLLM's shape: {model?, prompt | messages} -> {count, max_model_len, tokens, token_strs}.
import { Body, Controller, HttpCode, Inject, Post } from '@nestjs/common';
import type { EncodeRequest } from '@spotlight/proto';
import { z } from 'zod';
import { Requires } from '../auth/auth.guard.js';
import { invalidArgument } from '../errors/service-error.js';
import { readMessages } from '../openai/chat-request.js';
import { parseBody } from '../openai/parse-body.js';
import { TokenizeService } from './tokenize.service.js';

const tokenizeSchema = z.strictObject({
  model: z.string().nullish(),
  prompt: z.string().nullish(),
  messages: z.array(z.record(z.string(), z.unknown())).min(1).nullish(),
  add_special_tokens: z.boolean().nullish(),
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

interface TokenizeAnswer {
  readonly count: number;
  readonly max_model_len: number;
  readonly tokens: readonly number[];
  readonly token_strs: readonly string[] | null;
}

@Controller('tokenize')
@Requires('generate')
export class TokenizeController {
  constructor(@Inject(TokenizeService) private readonly tokenizer: Pick<TokenizeService, 'tokenize'>) {}

  @Post()
  @HttpCode(200)
  async create(@Body() raw: unknown): Promise<TokenizeAnswer> {
    const body = parseBody(tokenizeSchema, raw);
    const { tokenIds, tokens, maxModelLen } = await this.tokenizer.tokenize(
      body.model ?? '',
      promptOf(body),
      body.add_special_tokens ?? undefined,
    );
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      count: tokenIds.length,
      max_model_len: maxModelLen,
      tokens: tokenIds,
      token_strs: body.return_token_strs === true ? tokens.map((token) => decoder.decode(token)) : null,
    };
  }
}

function promptOf(body: z.output<typeof tokenizeSchema>): EncodeRequest['prompt'] {
  if ((body.prompt == null) === (body.messages == null)) {
    throw invalidArgument('prompt', 'Give either prompt or messages.', 'invalid_value');
  }
  if (body.messages == null) return { $case: 'text', value: body.prompt ?? '' };
  return {
    $case: 'chat',
    value: {
      messages: readMessages(body.messages),
      addGenerationPrompt: body.add_generation_prompt ?? undefined,
      continueFinalMessage: body.continue_final_message ?? undefined,
    },
  };
}
