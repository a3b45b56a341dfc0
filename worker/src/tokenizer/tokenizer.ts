// The worker's tokenizer: encodes prompts (R5) and turns tokens back to text (R9). One a worker, made once at start.
import type { ChatPrompt } from '@spotlight/proto';
import type { TextStream, TokenTexts } from '../engine/api.js';
import { ByteTable } from './byte-table.js';
import { ChatTemplate } from './chat-template.js';
import type { TokenizerDefinition } from './definition.js';
import { Detokenizer } from './detokenizer.js';
import { Encoder } from './encoder.js';

export class Tokenizer implements TokenTexts {
  private constructor(
    private readonly encoder: Encoder,
    private readonly table: ByteTable,
    private readonly detokenizer: Detokenizer,
    private readonly chat: ChatTemplate,
    readonly stopTokenIds: ReadonlySet<number>,
  ) {}

  /**
   * @param stopTokenIds ids the weights' own configuration names as end of text
   * @throws TokenizerError
   */
  static async create(
    definition: TokenizerDefinition,
    stopTokenIds: readonly number[] = [],
  ): Promise<Tokenizer> {
    const table = ByteTable.of(definition);
    const special = definition.json.added_tokens.filter((token) => token.special).map((token) => token.id);
    return new Tokenizer(
      await Encoder.of(definition),
      table,
      new Detokenizer(table, new Set(special)),
      new ChatTemplate(definition),
      new Set([...definition.stopTokenIds, ...stopTokenIds]),
    );
  }

  /** Number of ids that have text. */
  get size(): number {
    return this.table.size;
  }

  /** [async] Ids of a text; bos and eos are added where the model wants them, unless told not to. */
  encode(text: string, options: { readonly addSpecialTokens?: boolean } = {}): Promise<number[]> {
    return this.encoder.encode(text, options.addSpecialTokens ?? true);
  }

  /** [async] Ids of a chat by the model's template. @throws PromptError */
  async encodeChat(
    chat: ChatPrompt,
    options: { readonly addSpecialTokens?: boolean } = {},
  ): Promise<number[]> {
    return this.encoder.encode(this.chat.render(chat), options.addSpecialTokens ?? false);
  }

  /** The text a chat becomes. @throws PromptError */
  renderChat(chat: ChatPrompt): string {
    return this.chat.render(chat);
  }

  bytes(tokenId: number): Uint8Array {
    return this.table.bytes(tokenId);
  }

  openStream(options: { readonly skipSpecial?: boolean } = {}): TextStream {
    return this.detokenizer.openStream(options.skipSpecial ?? true);
  }
}
