// POST /v1/chat/completions: body -> OpenAiRequest. Messages are read by hand, since their shape depends on their role and
// clients send answers back as history, with every null field the answer had.
import type { ChatMessage } from '@spotlight/proto';
import { z } from 'zod';
import { invalidArgument } from '../errors/service-error.js';
import { attentionOf, commonFields, count, positive, samplingOf } from './fields.js';
import type { OpenAiRequest } from './openai-request.js';
import { kindOf, parseBody } from './parse-body.js';

/** A chat template knows these; `developer` is OpenAI's newer word for `system`. */
const ROLES: Readonly<Record<string, string>> = {
  system: 'system',
  developer: 'system',
  user: 'user',
  assistant: 'assistant',
};

const chatSchema = z.strictObject({
  ...commonFields,
  messages: z.array(z.record(z.string(), z.unknown())).min(1),
  max_tokens: positive.nullish(),
  max_completion_tokens: positive.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: count.max(20).nullish(),
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z.boolean().nullish(),
});

/** Throws INVALID_ARGUMENT naming the field at fault. */
export function readChatRequest(raw: unknown): OpenAiRequest {
  const body = parseBody(chatSchema, raw);
  if (body.top_logprobs != null && body.logprobs !== true) {
    throw invalidArgument('top_logprobs', 'top_logprobs needs logprobs to be true.', 'invalid_value');
  }
  if (
    body.max_tokens != null &&
    body.max_completion_tokens != null &&
    body.max_tokens !== body.max_completion_tokens
  ) {
    throw invalidArgument(
      'max_tokens',
      'max_tokens and max_completion_tokens differ; give the second alone.',
      'invalid_value',
    );
  }
  return {
    model: body.model ?? '',
    prompts: [
      {
        $case: 'chat',
        value: {
          messages: readMessages(body.messages),
          addGenerationPrompt: body.add_generation_prompt ?? undefined,
          continueFinalMessage: body.continue_final_message ?? undefined,
        },
      },
    ],
    sampling: samplingOf(body, {
      maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
      logprobs: body.logprobs === true ? (body.top_logprobs ?? 0) : undefined,
      echo: false,
    }),
    attention: attentionOf(body),
    timeoutMs: body.timeout_ms ?? undefined,
    stream: body.stream ?? false,
    logprobs: body.logprobs === true,
    includeUsage: body.stream_options?.include_usage ?? false,
    returnTokenIds: body.return_token_ids ?? false,
  };
}

/** Also read by /tokenize. Throws INVALID_ARGUMENT naming the message's field at fault. */
export function readMessages(messages: readonly Readonly<Record<string, unknown>>[]): ChatMessage[] {
  return messages.map((message, index) => readMessage(message, `messages[${index}]`));
}

function readMessage(message: Readonly<Record<string, unknown>>, at: string): ChatMessage {
  const { role, content, name, ...rest } = message;
  if (typeof role !== 'string' || !Object.hasOwn(ROLES, role)) {
    throw invalidArgument(
      `${at}.role`,
      `${at}.role must be one of ${Object.keys(ROLES).join(', ')}.`,
      'invalid_value',
    );
  }
  if (name != null && typeof name !== 'string') {
    throw invalidArgument(`${at}.name`, `${at}.name must be a string, not ${kindOf(name)}.`, 'invalid_type');
  }
  for (const [field, value] of Object.entries(rest)) {
    const empty = value === null || (Array.isArray(value) && value.length === 0);
    if (empty) continue;
    throw invalidArgument(
      `${at}.${field}`,
      `${at}.${field} is not supported by this server; messages carry text only.`,
      'unsupported_parameter',
    );
  }
  return { role: ROLES[role] ?? role, content: readContent(content, `${at}.content`), name: name ?? '' };
}

function readContent(content: unknown, at: string): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) {
    if (content == null) throw invalidArgument(at, `${at} is missing.`, 'missing_required_parameter');
    throw invalidArgument(
      at,
      `${at} must be a string or an array of text parts, not ${kindOf(content)}.`,
      'invalid_type',
    );
  }
  return content.map((part: unknown, index) => readPart(part, `${at}[${index}]`)).join('');
}

function readPart(part: unknown, at: string): string {
  const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
  if (type !== 'text') {
    throw invalidArgument(
      `${at}.type`,
      `${at}.type is ${typeof type === 'string' ? `"${type}"` : kindOf(type)}; this server takes "text" parts only.`,
      'unsupported_parameter',
    );
  }
  if (typeof text !== 'string') {
    throw invalidArgument(`${at}.text`, `${at}.text must be a string, not ${kindOf(text)}.`, 'invalid_type');
  }
  return text;
}
