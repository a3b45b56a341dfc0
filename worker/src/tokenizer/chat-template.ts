// A chat -> the text the model was trained on, by the model's own Jinja template, with the names transformers gives it.
// The rendered text holds its own special tokens, so it is encoded without adding any.
import { Template } from '@huggingface/jinja';
import type { ChatPrompt } from '@spotlight/proto';
import type { TokenizerDefinition } from './definition.js';
import { PromptError, TokenizerError } from './errors.js';

export class ChatTemplate {
  private readonly template: Template | undefined;
  private readonly names: Readonly<Record<string, string>>;

  /** @throws TokenizerError when the template does not parse: better at start than on the first chat */
  constructor(private readonly definition: TokenizerDefinition) {
    const { chatTemplate, bosToken, eosToken, padToken, unknownToken, source } = definition;
    try {
      this.template = chatTemplate === undefined ? undefined : new Template(chatTemplate);
    } catch (error) {
      throw new TokenizerError(`${source}: the chat template does not parse: ${(error as Error).message}`, {
        cause: error,
      });
    }
    const given = { bos_token: bosToken, eos_token: eosToken, pad_token: padToken, unk_token: unknownToken };
    this.names = Object.fromEntries(
      Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  }

  /** @throws PromptError naming the field at fault */
  render(chat: ChatPrompt): string {
    if (this.template === undefined) {
      throw new PromptError(
        'messages',
        `the model (${this.definition.source}) has no chat template: send a text prompt to completions instead`,
      );
    }
    const last = chat.messages.at(-1);
    if (last === undefined) throw new PromptError('messages', 'messages must hold at least one message');
    const continues = chat.continueFinalMessage ?? false;
    if (continues && chat.addGenerationPrompt === true) {
      throw new PromptError(
        'continue_final_message',
        'continue_final_message and add_generation_prompt exclude each other: give one of them',
      );
    }
    const text = this.run(this.template, {
      ...this.names,
      messages: chat.messages.map(({ role, content, name }) =>
        name === '' ? { role, content } : { role, content, name },
      ),
      add_generation_prompt: chat.addGenerationPrompt ?? !continues,
    });
    return continues ? endAfter(text, last.content) : text;
  }

  private run(template: Template, values: Record<string, unknown>): string {
    try {
      return template.render(values);
    } catch (error) {
      // raise_exception() of the template lands here: its text says what the model does not take.
      throw new PromptError(
        'messages',
        `the chat template refuses these messages: ${(error as Error).message}`,
      );
    }
  }
}

/** Cuts what the template puts after the final message, so that the model goes on with it. As transformers does. */
function endAfter(text: string, content: string): string {
  const bare = content.trim();
  const at = text.lastIndexOf(bare);
  if (bare === '' || at < 0) {
    throw new PromptError(
      'continue_final_message',
      'the final message is empty or the chat template changes it, so it cannot be continued',
    );
  }
  const kept = content.trimStart();
  return text.startsWith(kept, at) ? text.slice(0, at + kept.length) : text.slice(0, at + bare.length);
}
