// A prompt as the wire has it -> token ids. Ids pass as they are; the engine checks them against the vocabulary.
import type { ChatPrompt, Submit } from '@spotlight/proto';
import { PromptError } from '../tokenizer/errors.js';

/** The part of the tokenizer that prompts need. */
export interface PromptEncoder {
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Promise<number[]>;
  encodeChat(chat: ChatPrompt, options?: { readonly addSpecialTokens?: boolean }): Promise<number[]>;
}

/** [async] @throws PromptError naming the field at fault */
export async function encodePrompt(
  prompt: Submit['prompt'],
  encoder: PromptEncoder,
  options: { readonly addSpecialTokens?: boolean } = {},
): Promise<readonly number[]> {
  switch (prompt?.$case) {
    case 'text':
      return encoder.encode(prompt.value, options);
    case 'tokenIds':
      return prompt.value.ids;
    case 'chat':
      return encoder.encodeChat(prompt.value, options);
    default:
      throw new PromptError('prompt', 'prompt is missing: give text, token_ids or chat');
  }
}
