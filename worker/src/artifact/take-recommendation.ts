// What a worker does with the recommendation of the artifact it starts with: its settings are the deployment's from the first request
// on. An artifact swapped in later changes none, since caches, replays and deployments are told apart by the settings' digest.
import type { AttentionSettings, Engine } from '@spotlight/cuda';
import type { Logger } from 'pino';
import type { Config } from '../config/config.js';
import type { NativeModule } from '../native-options.js';
import { attentionSettings } from '../native-options.js';
import { layersText, RECOMMENDED, recommendationOf } from './recommendation.js';
import type { SlotTable } from './slots.js';

/** The settings in force. @param plain what the engine was opened with. @throws EngineError ARTIFACT_CORRUPT */
export function takeRecommendation(
  config: Config,
  native: NativeModule,
  engine: Pick<Engine, 'artifacts' | 'setAttention'>,
  slots: Pick<SlotTable, 'artifact' | 'onChange'>,
  plain: AttentionSettings,
  log: Logger,
): AttentionSettings {
  const started = slots.artifact;
  slots.onChange((slot, loaded) => {
    const next = loaded ? engine.artifacts[slot] : undefined;
    if (next?.metadata[RECOMMENDED] === undefined) return;
    if (next.metadata[RECOMMENDED] === started?.metadata[RECOMMENDED]) return;
    log.warn(
      { digest: next.digest, recommended: next.metadata[RECOMMENDED] },
      'this artifact recommends other attention settings than this worker has: it is served by those of the deployment; start workers with it to use its own',
    );
  });
  const text = started?.metadata[RECOMMENDED];
  if (started === undefined || text === undefined) return plain;
  if (config.attentionRecommended === 'ignore') {
    log.info(
      { recommended: text },
      'the artifact recommends attention settings: not used, by --attention-recommended',
    );
    return plain;
  }
  const settings = attentionSettings(config, native.DEFAULT_ATTENTION, recommendationOf(started));
  engine.setAttention(settings);
  const { layers = {}, ...rest } = settings;
  log.info({ ...rest, layers: layersText(layers) }, 'attention settings as the artifact recommends them');
  return settings;
}
