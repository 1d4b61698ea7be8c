//! The closed vocabularies of the quickstart's world. Held-out rows are combinations that were not trained on.

/// Who.
pub const NAMES: [&str; 40] = [
    "Ana", "Ben", "Carla", "David", "Elena", "Felix", "Grace", "Hugo", "Irene", "Jonas", "Karin", "Leo", "Maria",
    "Nina", "Oscar", "Paula", "Quentin", "Rosa", "Simon", "Tara", "Uma", "Viktor", "Wanda", "Xavier", "Yara", "Zoe",
    "Amir", "Bella", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hanna", "Ivan", "Julia", "Kofi", "Lina", "Marco",
    "Noor",
];

/// What, in the plural.
pub const THINGS: [&str; 20] = [
    "apples", "books", "candles", "cups", "flowers", "hats", "keys", "lamps", "lemons", "maps", "pears", "pens",
    "plates", "rings", "scarves", "shirts", "shoes", "spoons", "stamps", "toys",
];

/// Colours.
pub const COLOURS: [&str; 8] = ["black", "blue", "brown", "green", "orange", "red", "white", "yellow"];

/// Where.
pub const PLACES: [&str; 30] = [
    "Athens", "Berlin", "Bern", "Cairo", "Dakar", "Delhi", "Dublin", "Geneva", "Hanoi", "Havana", "Kyoto", "Lagos",
    "Lima", "Lisbon", "London", "Madrid", "Milan", "Nairobi", "Oslo", "Paris", "Porto", "Prague", "Quito", "Riga",
    "Rome", "Seoul", "Sofia", "Tunis", "Vienna", "Warsaw",
];

/// When.
pub const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// How a person comes to own something.
pub const VERBS: [&str; 4] = ["bought", "found", "sold", "packed"];
