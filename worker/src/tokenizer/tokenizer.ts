// The worker's tokenizer: encodes prompts (R5) and turns tokens back to text (R9). One a worker, made once at start.
import type { ChatPrompt } from '@spotlight/proto';
import { ErrorCode } from '@spotlight/proto';
import type { TextStream, TokenTexts } from '../engine/api.js';
import { ByteTable } from './byte-table.js';
import { ChatTemplate } from './chat-template.js';
import type { TokenizerDefinition } from './definition.js';
import { Detokenizer } from './detokenizer.js';
import { Encoder } from './encoder.js';
import { PromptError } from './errors.js';

/** Most UTF-16 units that Unicode normalisation makes one of (Hangul: three), with room to spare. */
const NORMALIZED_SHRINKS = 4;

export class Tokenizer implements TokenTexts {
  private constructor(
    private readonly encoder: Encoder,
    private readonly table: ByteTable,
    private readonly detokenizer: Detokenizer,
    private readonly chat: ChatTemplate,
    readonly stopTokenIds: ReadonlySet<number>,
    /** UTF-16 units; a longer text has more tokens than the context, whatever it says. */
    private readonly mostUnits: number,
    private readonly maxModelLen: number,
  ) {}

  /**
   * @param stopTokenIds ids the weights' own configuration names as end of text
   * @param maxModelLen tokens; a text that cannot fit is refused before it is encoded
   * @throws TokenizerError
   */
  static async create(
    definition: TokenizerDefinition,
    stopTokenIds: readonly number[] = [],
    maxModelLen = Number.POSITIVE_INFINITY,
  ): Promise<Tokenizer> {
    const table = ByteTable.of(definition);
    const special = definition.json.added_tokens.filter((token) => token.special).map((token) => token.id);
    return new Tokenizer(
      await Encoder.of(definition),
      table,
      new Detokenizer(table, new Set(special)),
      new ChatTemplate(definition),
      new Set([...definition.stopTokenIds, ...stopTokenIds]),
      NORMALIZED_SHRINKS * table.longest * maxModelLen,
      maxModelLen,
    );
  }

  /** [async] Ids of a text; bos and eos are added where the model wants them, unless told not to. @throws PromptError */
  async encode(text: string, options: { readonly addSpecialTokens?: boolean } = {}): Promise<number[]> {
    return this.encoder.encode(this.fitting(text), options.addSpecialTokens ?? true);
  }

  /** [async] Ids of a chat by the model's template. @throws PromptError */
  async encodeChat(
    chat: ChatPrompt,
    options: { readonly addSpecialTokens?: boolean } = {},
  ): Promise<number[]> {
    return this.encoder.encode(this.fitting(this.chat.render(chat)), options.addSpecialTokens ?? false);
  }

  bytes(tokenId: number): Uint8Array {
    return this.table.bytes(tokenId);
  }

  openStream(options: { readonly skipSpecial?: boolean } = {}): TextStream {
    return this.detokenizer.openStream(options.skipSpecial ?? true);
  }

  /** A text far beyond the context would keep every core busy for seconds, only to be refused after. */
  private fitting(text: string): string {
    if (text.length <= this.mostUnits) return text;
    throw new PromptError(
      'prompt',
      `prompt has ${text.length} characters, far more than the ${this.maxModelLen} tokens of the model's context hold`,
      ErrorCode.PROMPT_TOO_LONG,
    );
  }
}
