// Certificates for tests, made by the openssl command: Node can read certificates and not make them. Each test run has its own.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Identity {
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Identity {
  /** A certificate of this authority, for servers and clients, that carries these names (`DNS:x`, `IP:y`). */
  issue(name: string, names: string): Identity;
}

export function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** @param folder where its files are written */
export function authority(folder: string, name: string): Authority {
  const path = (file: string): string => join(folder, `${name}-${file}`);
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const ca = { cert: path('ca.pem'), key: path('ca.key') };
  openssl(
    ...['req', '-x509', ...newKey, '-keyout', ca.key, '-out', ca.cert, '-subj', `/CN=${name}`],
    ...['-addext', 'basicConstraints=critical,CA:TRUE'],
  );
  return {
    ...ca,
    issue(of, names) {
      const made = { cert: path(`${of}.pem`), key: path(`${of}.key`) };
      const [request, extensions] = [path(`${of}.csr`), path(`${of}.ext`)];
      writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
      openssl(
        'req',
        ...newKey.slice(0, 4),
        '-nodes',
        '-keyout',
        made.key,
        '-out',
        request,
        '-subj',
        `/CN=${of}`,
      );
      openssl(
        ...['x509', '-req', '-in', request, '-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial'],
        ...['-days', '2', '-extfile', extensions, '-out', made.cert],
      );
      return made;
    },
  };
}
