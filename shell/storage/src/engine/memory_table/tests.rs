//! The table alone, against a list of what was written.

use std::collections::BTreeMap;

use quorate_rng::Rng;

use super::*;
use crate::engine::files::hash;
use crate::engine::limits::ORDER_STEP;

/// Long common beginnings, ends of zeros, and keys that are the beginning of others.
fn key_of(random: &mut Rng, different: u64) -> Vec<u8> {
    let mut key = vec![0; random.below(3) as usize];
    if random.below(4) > 0 {
        key.extend_from_slice(b"the same for most of them, and longer than a head/");
    }
    key.extend_from_slice(random.below(different).to_string().as_bytes());
    key.extend(std::iter::repeat_n(0, random.below(20).saturating_sub(10) as usize));
    key
}

type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn write(table: &mut MemoryTable, key: &[u8], value: Option<&[u8]>) {
    table.insert(key, hash(key), value);
}

fn listed<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let value = |item: &Item| item.live_value().map(|value| value.to_vec());
    items.map(|item| (item.key().to_vec(), value(item))).collect()
}

fn check(layer: &Layer, model: &Model, random: &mut Rng, different: u64) {
    let owned: Vec<_> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let all = (Bound::Unbounded, Bound::Unbounded);
    assert_eq!(listed(Merged::new(layer.cursors(all), Direction::Forward)), owned);
    for _ in 0..20 {
        let (low, high) = (key_of(random, different), key_of(random, different));
        let item = layer.get(&low, hash(&low)).map(|item| item.live_value().map(|v| v.to_vec()));
        assert_eq!(item.as_ref(), model.get(&low));
        if low >= high {
            continue;
        }
        let range = (Bound::Excluded(&low[..]), Bound::Included(&high[..]));
        let mut expected: Vec<_> = model.range::<[u8], _>(range).collect();
        expected.reverse();
        let found = listed(Merged::new(layer.cursors(range), Direction::Backward));
        assert_eq!(found.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>(), expected);
    }
}

/// Layers of all ages are read while the table goes on growing, so that orders are extended in many steps,
/// by readers who need not have all of it.
#[test]
fn layers_show_what_was_written_before_them() {
    for seed in 1..=20 {
        let mut random = Rng::new(seed);
        let different = [3, 50, 3_000][seed as usize % 3];
        let mut table = MemoryTable::new(0);
        let mut model = Model::new();
        let mut kept: Vec<(Layer, Model)> = Vec::new();
        for _ in 0..40 {
            for _ in 0..random.below(150) {
                let key = key_of(&mut random, different);
                let bytes = if random.below(60) == 0 { 4_000 } else { random.below(30) as usize };
                let value = (random.below(5) > 0).then(|| vec![random.below(256) as u8; bytes]);
                write(&mut table, &key, value.as_deref());
                model.insert(key, value);
            }
            kept.push((table.layer_to(table.len()), model.clone()));
            if random.below(4) == 0 {
                kept[random.below(kept.len() as u64) as usize].0.put_in_order();
            }
            if random.below(3) == 0 {
                let at = random.below(kept.len() as u64) as usize;
                let (layer, model) = kept.swap_remove(at);
                check(&layer, &model, &mut random, different);
            }
        }
        assert_eq!(table.keys(), model.len());
        for (layer, model) in &kept {
            check(layer, model, &mut random, different);
            assert_eq!(listed(layer.sorted()), listed(table.layer_to(layer.end).sorted()));
        }
        let owned: Vec<_> = model.into_iter().collect();
        assert_eq!(listed(table.layer().sorted()), owned);
    }
}

#[test]
fn runs_stay_few() {
    let mut table = MemoryTable::new(0);
    let mut random = Rng::new(7);
    let (all, mut ordered) = ((Bound::Unbounded, Bound::Unbounded), 0);
    for round in 1..=2_000 {
        for _ in 0..1 + random.below(30) {
            let key = key_of(&mut random, 100_000);
            write(&mut table, &key, Some(b""));
        }
        let runs = table.layer().cursors(all).len();
        assert!(runs as u32 <= 2 * table.len().ilog2(), "{runs} in round {round}");
        if table.len() - ordered >= ORDER_STEP {
            ordered = table.len();
            table.layer().put_in_order();
            let runs = table.layer().cursors(all).len();
            assert!(runs as u32 <= ordered.ilog2() + 1, "{runs} at {ordered}");
        }
    }
    assert_eq!(table.layer().sorted().count(), table.keys());
    assert_eq!(table.layer().cursors(all).len(), 1, "what was put in order is kept");
}

/// Groups of keys of every size around that at which the way of sorting changes.
#[test]
fn keys_are_sorted_whatever_they_have_in_common() {
    for beginning in [0, 1, 7, 8, 9, 16, 300] {
        for count in [1_usize, 2, 15, 16, 17, 40, 700] {
            let mut table = MemoryTable::new(0);
            let mut model = Model::new();
            for n in 0..count {
                // Descending, ascending, and zeros alone.
                for end in [vec![255 - n as u8], n.to_be_bytes().to_vec(), vec![0; n % 20]] {
                    let mut key = vec![b'k'; beginning];
                    key.extend_from_slice(&end);
                    write(&mut table, &key, Some(&n.to_be_bytes()));
                    model.insert(key, Some(n.to_be_bytes().to_vec()));
                }
            }
            assert_eq!(listed(table.layer().sorted()), model.into_iter().collect::<Vec<_>>());
        }
    }
}

/// Readers of several ages and kinds on other threads while the owner writes: the index grows, chunks are
/// added, and keys are overwritten under them.
#[test]
fn readers_on_other_threads_see_their_layer() {
    const KEYS: u64 = 300;
    let key = |n: u64| format!("key {n}").into_bytes();
    let mut table = MemoryTable::new(0);
    std::thread::scope(|scope| {
        let (order, to_order) = std::sync::mpsc::sync_channel::<Layer>(1);
        scope.spawn(move || to_order.iter().for_each(|layer| layer.put_in_order()));
        let (hand, handed) = std::sync::mpsc::sync_channel::<(u64, Layer)>(4);
        let handed = Arc::new(Mutex::new(handed));
        for _ in 0..3 {
            let handed = Arc::clone(&handed);
            scope.spawn(move || {
                loop {
                    let next = handed.lock().unwrap().recv();
                    let Ok((round, layer)) = next else { return };
                    let expected = round.to_be_bytes();
                    for n in 0..KEYS {
                        let item = layer.get(&key(n), hash(&key(n))).unwrap();
                        assert_eq!(item.live_value().unwrap()[..], expected);
                    }
                    let all = (Bound::Unbounded, Bound::Unbounded);
                    let merged = Merged::new(layer.cursors(all), Direction::Backward);
                    assert_eq!(merged.count() as u64, KEYS + round);
                }
            });
        }
        for round in 1..=300_u64 {
            for n in 0..KEYS {
                write(&mut table, &key(n), Some(&round.to_be_bytes()));
            }
            write(&mut table, format!("new in {round}").as_bytes(), None);
            hand.send((round, table.layer_to(table.len()))).unwrap();
            order.send(table.layer_to(table.len())).unwrap();
            // Half a batch, which nobody sees.
            write(&mut table, &key(round % KEYS), Some(b"half"));
        }
        drop(hand);
        drop(order);
    });
}

/// Each key is the beginning of the next: a step of the sort for every eight of them.
#[test]
fn a_staircase_of_keys_is_sorted() {
    let mut table = MemoryTable::new(0);
    let key = |n: u64| vec![b'a'; n as usize];
    let mut random = Rng::new(3);
    (0..4_000).for_each(|_| write(&mut table, &key(1 + random.below(2_000)), Some(b"")));
    let sorted: Vec<_> = table.layer().sorted().map(|item| item.key().len()).collect();
    assert_eq!(sorted.len(), table.keys());
    assert!(sorted.is_sorted_by(|a, b| a < b));
}

#[test]
fn bytes_are_counted() {
    let mut table = MemoryTable::new(0);
    assert_eq!((table.bytes(), table.len()), (0, 0));
    write(&mut table, b"key", Some(&[0; 1000]));
    let one = table.bytes();
    assert!((1_003..1_100).contains(&one), "{one}");
    write(&mut table, b"key", None);
    assert!(table.bytes() > one, "what is overwritten is still there");
    let (before, copies) = (table.bytes(), 10_000);
    (0..copies).for_each(|n: u64| write(&mut table, &n.to_be_bytes(), Some(&[0; 100])));
    let each = (table.bytes() - before) / copies;
    assert!((108 + 48..108 + 80).contains(&each), "{each}");
}
