// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";

/// @dev The least that a broker accepts as a host's contract: ERC-165's ERC-721 and an owner, which may change.
contract PlainNft {
    address public owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function setOwner(address owner_) external {
        owner = owner_;
    }

    function supportsInterface(bytes4 id) external pure virtual returns (bool) {
        return id == 0x80ac58cd;
    }
}

/// @dev Owned, but an ERC-1155.
contract OtherTokenNft is PlainNft {
    constructor(address owner_) PlainNft(owner_) {}

    function supportsInterface(bytes4 id) external pure override returns (bool) {
        return id == 0xd9b67a26;
    }
}

/// @dev Answers every question with what it was made with, as revert or as return value.
contract EchoNft {
    bytes private _answer;
    bool private _reverts;

    constructor(bytes memory answer, bool reverts) {
        _answer = answer;
        _reverts = reverts;
    }

    fallback() external {
        bytes memory answer = _answer;
        if (_reverts) {
            assembly {
                revert(add(answer, 32), mload(answer))
            }
        }
        assembly {
            return(add(answer, 32), mload(answer))
        }
    }
}

/// @dev Burns all gas it is given.
contract BurnNft {
    fallback() external {
        assembly {
            invalid()
        }
    }
}

/// @dev Returns or reverts with as much zero memory as the gas pays for, up to `size` bytes.
contract BombNft {
    uint256 private immutable _size;
    bool private immutable _reverts;

    constructor(uint256 size, bool reverts) {
        _size = size;
        _reverts = reverts;
    }

    fallback() external {
        uint256 size = _size;
        if (_reverts) {
            assembly {
                revert(0, size)
            }
        }
        assembly {
            return(0, size)
        }
    }
}

/// @dev Owned and an ERC-721, and asks for another request of its own while it is asked who owns it.
contract ReentrantNft {
    IBrokerRequests private immutable _requests;

    constructor(IBrokerRequests requests) {
        _requests = requests;
    }

    function supportsInterface(bytes4) external pure returns (bool) {
        return true;
    }

    function owner() external returns (address) {
        _requests.submitRequest(address(this), hex"01");
        return address(this);
    }

    function ask() external {
        _requests.submitRequest(address(this), hex"02");
    }
}
