"""Wheel and sdist, built from what git holds, and the wheel tried in an environment of its own: `python .ci/package.py [--dist FOLDER]`

The wheel is built from the sdist, so that the sdist has all that is needed. It is installed beside the packages of this
Python's environment (nothing is downloaded) and used from an empty folder, where no checkout can stand in for it. All of it
happens in a temporary folder, a repository of its own, as a user's project with its environment inside is; --dist keeps both files. The last line is `N passed, N failed`."""
import argparse, json, os, re, shutil, subprocess, sys, sysconfig, tarfile, tempfile, time, zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(root/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
lib, version, scripts = cfg['lib_path'], cfg['version'], [s.split('=')[0] for s in cfg['console_scripts'].split()]
stem = f"{cfg['lib_name'].replace('-','_')}-{version}"

# Run by the installed wheel's Python
WHERE = f"import {lib}, importlib.metadata as m; print({lib}.__file__, {lib}.__version__, m.version('{cfg['lib_name']}'))"
STARTS = f'''import sys, importlib.metadata as m
for e in m.distribution('{cfg['lib_name']}').entry_points.select(group='console_scripts'):
    sys.argv = [e.name, '--help']
    try: why = e.load()()
    except SystemExit as s: why = s.code
    except Exception as s: why = repr(s)
    print('fails' if why else 'starts', e.name, why or '')'''

def tracked()->list[str]:
    names = subprocess.run(['git','ls-files','-co','--exclude-standard','-z'], cwd=root, check=True, capture_output=True, text=True).stdout
    return [n for n in names.split('\0') if n and (root/n).is_file()]

def copy(src:Path):
    "The files that git tracks or would track, in `src`"
    for n in tracked():
        (src/n).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/n, src/n)

def sh(*cmd, cwd:Path)->tuple[str,str]:
    "What a command printed, and why it failed or ''; no checkout on its path"
    env = {k: v for k,v in os.environ.items() if k not in ('PYTHONPATH','PYTHONHOME','VIRTUAL_ENV')} | dict(PYTHONNOUSERSITE='1', MPLBACKEND='agg', PIP_DISABLE_PIP_VERSION_CHECK='1')
    r = subprocess.run([str(c) for c in cmd], cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return r.stdout, r.returncode and f"exit status {r.returncode}\n{(r.stdout+r.stderr)[-2000:]}" or ''

def sdist_contents(path:Path)->str:
    with tarfile.open(path) as t: names = {n.split('/',1)[1] for n in t.getnames() if '/' in n}
    need = {'setup.py','pyproject.toml','settings.ini','requirements.txt','README.md','LICENSE','CHANGELOG.md','CITATION.cff'}|{n for n in tracked() if n.startswith(f'{lib}/')}
    return ('lacks '+', '.join(sorted(need-names)) if need-names else '')+('holds notebooks or results' if any(n.startswith('nbs/') or n.endswith('.ipynb') for n in names) else '')

def wheel_contents(names:set)->str:
    inside = {n for n in names if not n.startswith(f'{stem}.dist-info/')}
    diff = inside ^ {n for n in tracked() if n.startswith(f'{lib}/')}
    return f"not the modules of the checkout: {', '.join(sorted(diff))}" if diff else '' if f'{stem}.dist-info/licenses/LICENSE' in names else 'no LICENSE'

def metadata(text:str)->str:
    "What the page of a package index would show or link wrongly"
    m = Parser().parsestr(text)
    wrong = [f'{k} is {m[k]}, not {v}' for k,v in {'Name': cfg['lib_name'], 'Version': version, 'Summary': cfg['description'], 'Requires-Python': '>='+cfg['min_python']}.items() if m[k]!=v]
    lost = set(re.findall(r'\]\((?![a-z]+://|#)[^)\s]+|(?:src|href)="(?![a-z]+://|#)[^"]+', m.get_payload()))
    need, has = [{re.match(r'[\w.-]+', r)[0] for r in rs} for rs in (cfg['requirements'].split(), [r for r in m.get_all('Requires-Dist') if 'extra ==' not in r])]
    return '; '.join(wrong+[f'relative link {l}' for l in sorted(lost)]+[f'requirement {r} differs' for r in sorted(need^has)])

def environment(folder:Path, wheel:Path)->str:
    "Make an environment with the wheel, that sees this Python's packages too; why it failed, or '' "
    why = sh(sys.executable, '-m', 'venv', folder, cwd=folder.parent)[1] or sh(folder/'bin'/'python', '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', wheel, cwd=folder.parent)[1]
    if not why: next(folder.glob('lib/python*/site-packages')).joinpath('beside.pth').write_text('\n'.join({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')})+'\n') # after pip, which would see a package of the same name there
    return why

def main()->int:
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument('--dist', help='a folder that wheel and sdist are copied to')
    a, start, failed, n = a.parse_args(), time.time(), [], 0
    def note(name, why)->bool:
        nonlocal n; n += 1
        print(f"{'FAILED' if why else 'passed'}  {name}"+(f'\n    {why}' if why else ''), flush=True)
        if why: failed.append(name)
        return not why
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp).resolve()
        src, dist, env, away = tmp/'src', tmp/'dist', tmp/'env', tmp/'away'
        copy(src); away.mkdir()
        sh('git', 'init', '-q', cwd=tmp); sh('git', '-c', 'user.name=a', '-c', 'user.email=a@example.org', 'commit', '-q', '--allow-empty', '-m', 'a project', cwd=tmp)
        wheel, sdist = dist/f'{stem}-py3-none-any.whl', dist/f'{stem}.tar.gz'
        why = sh(sys.executable, '-m', 'build', '--no-isolation', '-o', dist, src, cwd=away)[1]
        if note('sdist, and the wheel from it', why or ('' if wheel.exists() and sdist.exists() else f'built {sorted(p.name for p in dist.iterdir())}')):
            with zipfile.ZipFile(wheel) as z: names, text = set(z.namelist()), z.read(f'{stem}.dist-info/METADATA').decode()
            note('the sdist holds what builds it', sdist_contents(sdist))
            note('the wheel holds the modules and the licence', wheel_contents(names))
            note('its metadata, and no relative link', metadata(text))
            if note('it installs', environment(env, wheel)):
                out, why = sh(env/'bin'/'python', '-c', WHERE, cwd=away)
                note('what is imported is the installed one', why or ('' if out.startswith(f'{env}/') and out.split()[1:]==[version]*2 else out))
                note(f'from {lib}.all import *', sh(env/'bin'/'python', '-c', f'from {lib}.all import *', cwd=away)[1])
                out, why = sh(env/'bin'/'python', '-c', STARTS, cwd=away)
                lacks = [s for s in scripts if not (env/'bin'/s).exists() or not re.search(rf'^starts {s} ', out, re.M)]
                note(f'{len(scripts)} commands start', why or lacks and f"these do not: {', '.join(lacks)}; {'; '.join(re.findall('^fails .*', out, re.M))}")
                why = sh(env/'bin'/f'{lib}_run', '--dataset', 'digits', '--seeds', '3', '--epochs', '1', '--m', '19', '--out', 'run', cwd=away)[1]
                if note(f'{lib}_run in an empty folder', why or ('' if (away/'run/artifacts/reports/report.html').exists() else 'no report.html')):
                    run = json.loads((away/'run/runs/run.json').read_text(encoding='utf-8'))
                    note('its record names the version, and no commit of the repository around', '' if (run['versions'][lib], run['commit'])==(version, None) else f"{run['versions'][lib]}, {run['commit']}")
            if a.dist:
                Path(a.dist).mkdir(parents=True, exist_ok=True)
                for p in (sdist, wheel): shutil.copy2(p, a.dist)
    print(f'{time.time()-start:.0f} s'+(f"; failed: {', '.join(failed)}" if failed else ''))
    print(f'{n-len(failed)} passed, {len(failed)} failed')
    return int(bool(failed))

if __name__ == '__main__': sys.exit(main())
