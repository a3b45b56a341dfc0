// Names of deployments: the model's own name made fit for a URL, so that the usual one deployment a model needs no table in the
// head. A second one of the same name (other settings, or another model) carries a digest's head. Pure.
import { createHash } from 'node:crypto';

/** What makes a deployment: workers that agree in these answer alike. */
export interface DeploymentKey {
  readonly modelId: string;
  readonly modelFingerprint: string;
  readonly settingsDigest: string;
}

const MAX_LENGTH = 80;

/** Plain first, then ever more particular; the first that is free is taken, and the last is free always. */
export function deploymentIds({ modelId, modelFingerprint, settingsDigest }: DeploymentKey): string[] {
  const name =
    modelId
      .toLowerCase()
      .replace(/[^a-z0-9._-]+/g, '-')
      .replace(/^[-.]+|[-.]+$/g, '')
      .slice(0, MAX_LENGTH) || 'model';
  const settings = settingsDigest.toLowerCase().replace(/[^a-z0-9]/g, '');
  const all = createHash('sha256')
    .update(JSON.stringify([modelId, modelFingerprint, settingsDigest]))
    .digest('hex');
  return [name, `${name}-${settings.slice(0, 8) || '0'}`, `${name}-${all.slice(0, 32)}`];
}
